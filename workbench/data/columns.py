"""Columns of a file that no layout knows, put under the names that demonstrations have.

A mapping goes from our column to theirs: `{"prompt": "Frage", "positive": "Antwort"}`. Tags may come from several columns, with commas
between, and each value is tagged with its column's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.data.demonstrations import COLUMNS
from workbench.data.rows import BadRow, Values
from workbench.errors import BadDemonstrations

_ANSWERS = ("positive", "negative", "label")
# Nothing goes between these and what follows them.
_OPEN = ("\n", " ", "\t", '"', "(", "“")
# What columns are called elsewhere, likeliest first.
_WORDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "context", "source", "text", "sentence"),
    "positive": ("positive", "good", "right", "correct", "answer", "chosen", "response", "output", "completion", "target", "best"),
    "negative": ("negative", "bad", "wrong", "incorrect", "rejected", "worse"),
    "label": ("label", "class", "verdict"),
    "tags": ("category", "topic", "type"),
    "split": ("split", "part"),
    "id": ("id", "key"),
}


def guessed(columns: Iterable[str]) -> dict[str, str]:
    """Which column is likely to be which of ours, by its name; each of theirs once."""
    theirs, found = list(columns), dict[str, str]()
    for ours, words in _WORDS.items():
        free = [name for name in theirs if name not in found.values()]
        for word in words:
            near = sorted((name for name in free if word in name.casefold()), key=lambda name: (name.casefold() != word, len(name)))
            if near:
                found[ours] = near[0]
                break
    return found


def checked_mapping(mapping: Mapping[str, str], columns: Iterable[str]) -> Mapping[str, str]:
    """The mapping, if it names a prompt, only columns of ours, and only columns that the file has.

    Raises:
        BadDemonstrations: it does not.
    """
    known = list(columns)
    for ours, theirs in mapping.items():
        if ours not in COLUMNS:
            raise BadDemonstrations(f"Demonstrations have no column {ours!r}.", f"Map onto one of {', '.join(COLUMNS)}.")
        for name in _names(ours, theirs):
            if name not in known:
                raise BadDemonstrations(f"There is no column {name!r} to take {ours} from.", f"Name one of {', '.join(known) or 'none'}.")
    if "prompt" not in mapping:
        raise BadDemonstrations("No column is the prompt.", f"Say which is, as prompt=NAME; there are {', '.join(known) or 'none'}.")
    return mapping


def under_our_names(values: Values, mapping: Mapping[str, str]) -> Values:
    """One record under our names. An answer to a text begins with a space of its own, as spreadsheets rarely keep it.

    Raises:
        BadRow: a column holds neither a text nor a number.
    """
    found: dict[str, Any] = {}
    for ours, theirs in mapping.items():
        if ours == "tags":
            told = [(name, values.get(name)) for name in _names(ours, theirs)]
            found[ours] = [f"{name}:{_text(value, name)}" for name, value in told if value not in (None, "")]
        else:
            value = values.get(theirs)
            found[ours] = value if value is None or ours == "prompt" and isinstance(value, list) else _text(value, theirs)
    return spaced(found)


def spaced(values: Values) -> Values:
    """The record with a space before each answer to a text prompt that has none, and no space at the prompt's end."""
    prompt = values.get("prompt")
    if not isinstance(prompt, str):
        return values
    prompt = prompt.rstrip(" \t")
    glue = "" if prompt.endswith(_OPEN) else " "
    answers = {
        name: text if text[0].isspace() else glue + text for name in _ANSWERS if isinstance(text := values.get(name), str) and text.strip()
    }
    return values | answers | {"prompt": prompt}


def _names(ours: str, theirs: str) -> list[str]:
    return [name.strip() for name in theirs.split(",") if name.strip()] if ours == "tags" else [theirs]


def _text(value: Any, column: str) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    raise BadRow(f"has a {type(value).__name__} as {column}.", "Map a column of texts or numbers.")
