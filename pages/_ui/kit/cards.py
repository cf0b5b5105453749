"""What is about one method stands in data: the first card of Start, and what the page Senses teaches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from workbench.errors import BadKnob, UnknownName
from workbench.resources import CARDS


@dataclass(frozen=True)
class FitCard:
    """A card that fits at once: a method with values for its knobs on a set, measured at a dose beside rivals.

    `rival` is a sentence that asks for the same, `against` one that asks for the opposite; `why` says where all these come from.
    """

    title: str
    text: str
    verb: str
    model: str
    set: str
    method: str
    values: Mapping[str, Any]
    dose: float
    rival: str
    against: str
    why: str


@dataclass(frozen=True)
class TeachCard:
    """The page Senses as it opens: the method that teaches, its example, questions in other words, a word and a prompt to look into."""

    method: str
    prompt: str
    answer: str
    questions: tuple[str, ...]
    word: str
    reading: str


CardT = TypeVar("CardT", FitCard, TeachCard)


def card(kind: type[CardT], name: str) -> CardT:
    """Read a card of `assets/cards`. Whether its method, knobs and set exist is seen when it is used; a test looks at all that ship.

    Raises:
        UnknownName: there is no such card. BadKnob: a field is missing, too much, or of another type than the card's.
    """
    path = CARDS / f"{name}.json"
    if not path.is_file():
        raise UnknownName("card", name, (item.stem for item in CARDS.glob("*.json")))
    restore = "Restore assets/cards from a copy."
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadKnob(f"The card {name} is no JSON: {error}", restore) from error
    types: dict[str, Any] = {"str": str, "float": (int, float), "tuple[str, ...]": list, "Mapping[str, Any]": dict}
    wanted = {item.name: types[str(item.type)] for item in fields(kind)}
    wrong = sorted(wanted.keys() ^ told.keys()) or [key for key, value in told.items() if not isinstance(value, wanted[key])]
    if wrong:
        raise BadKnob(f"The card {name} is wrong about {', '.join(wrong)}; it has {', '.join(wanted)}.", restore)
    read: dict[str, Any] = {key: tuple(told[key]) if kept is list else told[key] for key, kept in wanted.items()}
    return kind(**read)
