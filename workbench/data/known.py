"""What a set knows of the answer to a prompt, and whether a text gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

from workbench.conversations import Conversation, Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations

Given = Literal["right", "wrong", "neither"]
_WORDS = re.compile(r"\w+")


@final
@dataclass(frozen=True)
class KnownAnswer:
    """The good and the bad answers of a set to one prompt."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    source: str

    def given(self, text: str) -> Given:
        """Which kind of answer a text gives: the one that is said first in it, word for word, of two at one place the longer.

        Case and punctuation do not count. A text that says none of them gives neither: it may be right in other words.
        """
        said = _words(text)
        found = [(at, -len(_words(one)), is_bad) for is_bad, one in self._sides() if (at := _at(_words(one), said)) is not None]
        return "neither" if not found else "wrong" if min(found)[2] else "right"

    def _sides(self) -> Iterable[tuple[bool, str]]:
        return [*((False, one) for one in self.positive), *((True, one) for one in self.negative)]


def known_answers(rows: Demonstrations, prompts: Sequence[Prompt]) -> tuple[KnownAnswer | None, ...]:
    """What a set knows of each prompt; None where no row with a good answer asks it.

    A conversation asks what its user said last: a text is put to a chat model so.
    """
    wanted = [Demonstration(prompt.asked if isinstance(prompt, Conversation) else prompt).question for prompt in prompts]
    asked: dict[str, list[Demonstration]] = {question: [] for question in wanted}
    for row in rows:
        if row.positive and (question := row.question) in asked:
            asked[question].append(row)
    return tuple(_known(asked[question], rows.name) for question in wanted)


def _known(rows: Sequence[Demonstration], source: str) -> KnownAnswer | None:
    if not rows:
        return None
    good = dict.fromkeys(answer for row in rows for answer in (row.positive, *row.all_tagged("true")) if answer)
    bad = dict.fromkeys(answer for row in rows for answer in (row.negative, *row.all_tagged("false")) if answer)
    return KnownAnswer(tuple(good), tuple(bad), source)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.casefold()))


def _at(wanted: tuple[str, ...], said: tuple[str, ...]) -> int | None:
    return next((i for i in range(len(said) - len(wanted) + 1) if wanted and said[i : i + len(wanted)] == wanted), None)
