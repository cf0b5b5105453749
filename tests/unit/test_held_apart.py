"""Answers in several phrasings of one prompt are one group: no split that is drawn parts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import words
from workbench.conversations import Conversation, Turn
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.splits import assigned, held_apart
from workbench.methods.hpr.rows import split_by_question
from workbench.methods.shared.concept import concept_of
from workbench.methods.shared.places import apart_sides

PHRASINGS = 4


def phrased(n: int = 20) -> Demonstrations:
    """Each prompt with four phrasings of its answers, one after the other, all to fit."""
    rows = [Demonstration(words(10 + i, 30 + i), f" w{1 + j}", f" w{50 + j}", id=f"{i}-{j}") for i in range(n) for j in range(PHRASINGS)]
    return Demonstrations(tuple(rows), "phrased")


def leaks(fit: Any, held: Any) -> set[str]:
    """What is asked on both sides."""
    return {str(one) for one in fit} & {str(one) for one in held}


def test_a_drawn_split_keeps_all_phrasings_of_a_prompt_together_and_one_by_row_would_not() -> None:
    rows = assigned(phrased().rows)
    by_split = {name: [row.prompt for row in rows if row.split == name] for name in ("fit", "validation", "test")}
    assert all(by_split.values())
    assert leaks(by_split["fit"], by_split["test"] + by_split["validation"]) == set()
    # The negative control: a draw by rows asks the same in both parts, which is what this test has to be able to see.
    by_row = [replace(row, split="test" if i % 4 == 3 else "fit") for i, row in enumerate(phrased())]
    assert leaks([row.prompt for row in by_row if row.split == "fit"], [row.prompt for row in by_row if row.split == "test"])


def test_a_chat_is_grouped_by_what_is_asked_whatever_its_system_turn() -> None:
    def asked(i: int, system: str) -> Conversation:
        return Conversation((Turn("system", system), Turn("user", words(10 + i, 30 + i))))

    rows = assigned([Demonstration(asked(i, words(j)), "w1", "w2", id=f"{i}-{j}") for i in range(20) for j in range(PHRASINGS)])
    splits = [{row.split for row in rows if row.id.startswith(f"{i}-")} for i in range(20)]
    assert all(len(one) == 1 for one in splits) and len(set.union(*splits)) == 3


def test_what_a_fit_holds_out_of_itself_asks_nothing_that_it_was_fitted_on(tiny_gpt2: Any) -> None:
    rows = phrased()
    for fit, held in (held_apart(rows), split_by_question(rows, 0)):
        assert len(fit) and len(held) and leaks(fit.prompts(), held.prompts()) == set()
        assert len(fit) + len(held) == len(rows)
    concept = concept_of(tiny_gpt2, rows)
    assert leaks(concept.train.texts, concept.validation.texts) == set() and len(concept.validation) >= 16
    (good, _), (held_good, _) = apart_sides(rows)
    assert leaks([prompt for prompt, _ in good], [prompt for prompt, _ in held_good]) == set()


def test_one_prompt_alone_cannot_be_held_apart_and_is_not_lost(tiny_gpt2: Any) -> None:
    one = Demonstrations(tuple(replace(row, prompt="w1 w2") for row in phrased()), "one")
    fit, held = held_apart(one)
    assert len(fit) == len(held) == len(one)
    concept = concept_of(tiny_gpt2, one)
    assert len(concept.train) and len(concept.validation)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_few_prompts_leave_one_to_judge_by(n: int) -> None:
    fit, held = held_apart(phrased(n))
    assert len({row.prompt for row in held}) == max(1, n // 4) and len(fit) + len(held) == n * PHRASINGS
