"""What every layout reads a record with: its texts, its split, and the error that says what is wrong with a row."""

from __future__ import annotations

import ast
import io
import json
import random
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from workbench.data.demonstrations import Split

Values = dict[str, Any]
_WORDS: dict[str, Split] = {
    "train": "fit", "training": "fit", "val": "validation", "valid": "validation", "dev": "validation", "eval": "test"
}  # fmt: skip
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


def list_of(values: Values, column: str) -> list[Any]:
    """Return a column's list, given as one or written as text: JSON, Python's `['a', 'b']`, or numpy's `['a' 'b']`. A missing one is empty.

    Raises:
        BadRow: it is neither.
    """
    value = values.get(column)
    if value is None or isinstance(value, str) and not value.strip():
        return []
    found = _written(value, column) if isinstance(value, str) else value
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise BadRow(f"has {str(value)[:60]!r} as {column}.", f'Write {column} as a list: ["first", "second"].')
    return list(found)


def object_of(values: Values, column: str) -> dict[str, Any]:
    """Return a column's object, given as one or written as text (JSON or Python). A missing one is empty.

    Raises:
        BadRow: it is neither.
    """
    value = values.get(column)
    if value is None or isinstance(value, str) and not value.strip():
        return {}
    found = _written(value, column) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise BadRow(f"has {str(value)[:60]!r} as {column}.", f'Write {column} as an object: {{"name": "value"}}.')
    return found


def _written(text: str, column: str) -> Any:
    """What a text spells. Texts side by side in brackets are items, as numpy prints them: Python would glue them together."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = _items(text) if text.lstrip().startswith("[") else None
        return ast.literal_eval(text.strip()) if found is None else found
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        hint = f'Write {column} as JSON: ["first", "second"] or {{"name": "value"}}.'
        raise BadRow(f"has {text[:60]!r} as {column}, which spells neither a list nor an object.", hint) from error


def _items(text: str) -> list[Any] | None:
    """The texts and numbers of a flat list, with or without commas between; None where something else stands in it."""
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline) if token.string.strip()]
    inside = [token for token in tokens[1:-1] if token.string != ","]
    if tokens[-1].string != "]" or any(token.type not in (tokenize.STRING, tokenize.NUMBER) for token in inside):
        return None
    return [ast.literal_eval(token.string) for token in inside]


def continuation(text: str) -> str:
    """The text as a continuation: stripped, with one leading space."""
    return " " + text.strip()


def split_of(value: Any) -> Split:
    """Read a split; `train`, `val`, `dev` and their like are understood in any case, an empty one is `fit`.

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
