"""A judged answer ends where its sentence does; what differs between two answers is told token by token."""

from __future__ import annotations

import pytest

from workbench.data.cutting import first_sentence
from workbench.data.differing import differing


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" gut. Question: Where is Sw itzer", " gut."),
        ("Yes! It is.", "Yes!"),
        (' "Never." He left.', ' "Never."'),
        ("Dr. Smith and J. Doe paid 3.50 for it. Then", "Dr. Smith and J. Doe paid 3.50 for it."),
        ("\nFirst line\nsecond line", "\nFirst line"),
        ("no end here", "no end here"),
        ("It is e.g. this one.  ", "It is e.g. this one."),
        ("", ""),
        ("One. two goes on. Three", "One. two goes on."),
    ],
)
def test_an_answer_ends_with_its_first_sentence(text: str, answer: str) -> None:
    assert first_sentence(text) == answer


def test_the_tokens_that_differ_are_those_outside_shared_runs() -> None:
    assert differing(("a", "b", "c", "d"), ("a", "x", "c", "d", "e")) == ((False, True, False, False), (False, True, False, False, True))
    assert differing((), ("a",)) == ((), (True,)) and differing(("a",), ("a",)) == ((False,), (False,))
