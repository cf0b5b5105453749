"""What every layout reads a record with: its texts, its split, and the error that says what is wrong with a row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from workbench.data.demonstrations import Split

Values = dict[str, Any]
_WORDS: dict[str, Split] = {"train": "fit", "val": "validation", "dev": "validation"}
_SPLITS: dict[str, Split] = {name: name for name in get_args(Split)} | _WORDS


class BadRow(Exception):  # noqa: N818 - a row is bad, the program is not
    """A record that does not make a demonstration: what is wrong, and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True)
class Context:
    """What a converter may know beside its record: the file's stem, the line, and the seed of every choice."""

    stem: str
    line: int
    seed: int

    def pick(self, options: Sequence[str]) -> str:
        """Choose one, the same one each time this row is read."""
        return random.Random(f"{self.seed}:{self.stem}:{self.line}").choice(options)


def text_of(values: Values, column: str) -> str:
    """Return a column's text.

    Raises:
        BadRow: it is missing, empty, or not a text.
    """
    value = values.get(column)
    if not isinstance(value, str):
        got = "no" if value is None else f"a {type(value).__name__} as"
        raise BadRow(f"has {got} {column}.", f"Give {column} a text.")
    if not value.strip():
        raise BadRow(f"has an empty {column}.", f"Give {column} a text.")
    return value


def continuation(text: str) -> str:
    """The text as a continuation: stripped, with one leading space."""
    return " " + text.strip()


def split_of(value: Any) -> Split:
    """Read a split; `train`, `val` and `dev` are understood, an empty one is `fit`.

    Raises:
        BadRow: some other word.
    """
    if value is None or value == "":
        return "fit"
    if not isinstance(value, str) or value.strip().lower() not in _SPLITS:
        raise BadRow(f"has the split {value!r}.", "Use fit, validation or test.")
    return _SPLITS[value.strip().lower()]


def distinct(texts: Sequence[str]) -> list[str]:
    """The texts stripped, without empty ones and repetitions, in order."""
    return list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
