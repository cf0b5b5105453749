"""A lane is what stands side by side with others: a stack of edits, each at its dose, and perhaps what is said before every prompt.

This is the one way to write it.

In Python a lane is an edit, a text or a tuple of these, and several lanes are a list:

    edit, edit.scaled(2.0)    the edit at its dose, and at twice that
    "ID:2"                    a saved edit at dose 2, counted from its fit; "ID" at the dose it was saved at
    "ID:2@user"               the same, acting at a place (`workbench.place`); also ID@prompt, ID@after "Answer:"
    (edit, "ID:2")            a stack: its edits act in this order
    'prompt:"Be honest."'     the untouched model, told so before every prompt; also system:"…" and shots:"SET":4
    ()                        the untouched model
    [edit, (edit, other)]     two lanes

As text, on the command line and in links: `ID:2`, `runs/sea:1.5`, `a+b:2` (a, and b at dose 2), `base`. A name that holds a mark of this
grammar stands in double quotes: `"good + bad":2`. What is said stands with or without edits: `ID:2+prompt:"Be honest."`.

Nothing here imports torch: pages read links before it is there.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from workbench.edits.prompting import Prompting, ShotsOf, quoted
from workbench.errors import BadDose, BadLane
from workbench.place import read_place

LOWEST_DOSE, HIGHEST_DOSE = -5.0, 5.0
BASE = "base"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_QUOTED = re.compile(r'"(?P<key>(?:[^"]|"")+)"(?P<rest>.*)', re.DOTALL)
_SAID = re.compile(r'(?P<word>prompt|system|shots):"(?P<text>(?:[^"]|"")*)"(?P<rest>.*)', re.DOTALL)
# What is behind an @ is a place where it begins like one; a name may hold an @.
_PLACE = re.compile(r"(all|prompt|generated|last|system|user|assistant)$|(first|after)\b")
_HOW = "Write ID, ID:2 for a dose, a+b for a stack; a name with such marks stands in double quotes."
_IN_PYTHON = (
    'A lane is an edit, a text such as "ID:2", or a tuple of these; several lanes are a list; a dose is edit.scaled(2.0) or "ID:2".'
)

IsName = Callable[[str], bool]


def valid_dose(dose: float) -> float:
    """A dose within the range that every slider and command has. 0 is the untouched model, 1 the edit as fitted, below 0 the opposite.

    Raises:
        BadDose: it is NaN or out of range.
    """
    if not LOWEST_DOSE <= dose <= HIGHEST_DOSE:  # NaN fails too
        span = f"{LOWEST_DOSE:g} to {HIGHEST_DOSE:g}"
        raise BadDose(
            f"A dose of {dose:g} is outside {span}.", f"Give a number from {span}: 0 is the untouched model, 1 the edit as fitted."
        )
    return float(dose) + 0.0  # no negative zero


class Dosed(ABC):
    """What a lane is made of: an edit, loaded or by name, at a dose."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What it is found by: a name, or the id of a loaded edit."""

    @property
    @abstractmethod
    def written_dose(self) -> float | None:
        """Its dose, counted from its fit; None is the dose it was saved at."""

    @property
    @abstractmethod
    def written_place(self) -> str:
        """Where a lane lets it act; empty: where it acts by itself."""


@final
@dataclass(frozen=True)
class Named(Dosed):
    """An edit by id, by the name it was saved under, or by its folder. Raises: BadLane, BadDose, BadPlace."""

    name: str
    dose: float | None = None
    where: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise BadLane("A lane names an edit by an empty text.", _HOW)
        if self.dose is not None:
            object.__setattr__(self, "dose", valid_dose(self.dose))
        if self.where:
            object.__setattr__(self, "where", str(read_place(self.where)))

    @property
    def key(self) -> str:
        return self.name

    @property
    def written_dose(self) -> float | None:
        return self.dose

    @property
    def written_place(self) -> str:
        return self.where


@final
@dataclass(frozen=True)
class Lane:
    """A stack of edits, loaded or named, each at its dose, and what is said before every prompt; without both the untouched model."""

    edits: tuple[Dosed, ...] = ()
    prompting: Prompting | None = None

    @staticmethod
    def parse(text: str, is_name: IsName = lambda _: False) -> Lane:
        """Read a lane from its text; `is_name` knows names that hold marks of the grammar and yet stand without quotes.

        Raises:
            BadLane: the text is no lane. BadDose: a dose is NaN or out of range. BadPlace: a place waits for nothing.
        """
        if text.strip() == BASE:
            return Lane()
        if is_name(text):
            return Lane((Named(text),))
        parts = [part.strip() for part in _split(text, "+")]
        said = [_said(part) for part in parts]
        edits = tuple(_named(part, is_name) for part, one in zip(parts, said) if one is None)
        return Lane(edits, _together(said))

    def __str__(self) -> str:
        return "+".join([*map(_written, self.edits), *([str(self.prompting)] if self.prompting else [])]) or BASE

    @property
    def keys(self) -> tuple[str, ...]:
        """What its edits are found by."""
        return tuple(edit.key for edit in self.edits)

    @property
    def doses(self) -> tuple[tuple[str, float | None], ...]:
        """What each edit is found by, with its dose; None is the dose it was saved at."""
        return tuple((edit.key, edit.written_dose) for edit in self.edits)

    def loaded(self, load: Callable[[Named], Dosed], read: Callable[[Prompting], Prompting]) -> Lane:
        """The same lane with every named edit loaded by `load`, and shots that are only named read by `read`."""
        edits = tuple(load(edit) if isinstance(edit, Named) else edit for edit in self.edits)
        said = self.prompting
        return Lane(edits, read(said) if said and said.shots and not said.examples else said)

    def acting(self, where: str) -> Lane:
        """The same lane with its named edits acting at a place; empty: where they act by themselves. Raises: BadPlace."""
        return replace(self, edits=tuple(replace(edit, where=where) if isinstance(edit, Named) else edit for edit in self.edits))

    def dosed(self, dose: float | None) -> Lane:
        """The same lane with a dose for the edits that name none."""
        given = (replace(edit, dose=dose) if isinstance(edit, Named) and edit.dose is None else edit for edit in self.edits)
        return replace(self, edits=tuple(given))


_Part = Lane | Dosed | str | Path
if TYPE_CHECKING:
    EditLike = Dosed | str | Path
    LaneLike = _Part | tuple[_Part, ...]
    LanesLike = LaneLike | Sequence[LaneLike]
else:  # at run time anything comes in, and is refused by name
    EditLike = LaneLike = LanesLike = object


def lane_of(given: LaneLike, is_name: IsName = lambda _: False) -> Lane:
    """The lane that something means: a `Lane`, an edit, its text or folder, or a tuple of these as a stack.

    Raises:
        BadLane: it means none; the hint says what to write. BadDose: a dose is NaN or out of range.
    """
    return _lane(given, is_name)


def _lane(one: object, is_name: IsName) -> Lane:
    if isinstance(one, Lane):
        return one
    if isinstance(one, str):
        return Lane.parse(one, is_name)
    if isinstance(one, Path):
        return Lane((Named(str(one)),))
    if isinstance(one, Dosed):
        return Lane((one,))
    if not isinstance(one, (tuple, list)):
        raise BadLane(f"{one!r} is no edit.", _IN_PYTHON)
    parts = cast(Sequence[Any], one)
    if isinstance(one, list) or any(isinstance(part, (tuple, list)) for part in parts):
        what = "a list is several lanes" if isinstance(one, list) else "a stack holds no other"
        hint = "Write a stack as a tuple, (a, b), and several lanes as a list, [a, (a, b)]."
        raise BadLane(f"{one!r} stands where one lane is needed; {what}.", hint)
    lanes = [_lane(part, is_name) for part in parts]
    return Lane(tuple(edit for lane in lanes for edit in lane.edits), _together([lane.prompting for lane in lanes]))


def lanes_of(given: LanesLike, is_name: IsName = lambda _: False) -> tuple[Lane, ...]:
    """The lanes that something means: each item of a list, else the one lane. Raises: as `lane_of`."""
    whole: list[Any] = cast(list[Any], given) if isinstance(given, list) else [given]
    return tuple(lane_of(item, is_name) for item in whole)


def read_lanes(text: str) -> tuple[Lane, ...]:
    """The lanes of a link: their texts with commas between them. Raises: as `Lane.parse`."""
    return tuple(Lane.parse(part) for part in _split(text, ",") if part.strip())


def write_lanes(lanes: Sequence[Lane]) -> str:
    """Lanes as a link holds them."""
    return ",".join(map(str, lanes))


def _written(edit: Dosed) -> str:
    key, dose, place = edit.key, edit.written_dose, f"@{edit.written_place}" if edit.written_place else ""
    is_plain = key == key.strip() and key != BASE and not set(key) & set('+,"') and not _tail(key, ":")
    is_plain = is_plain and not _tail(key, "@") and not _placed(key)[1]
    text = key if is_plain else quoted(key)
    if dose is None:
        return text + place
    return (f"{text}:{dose:g}" if float(f"{dose:g}") == dose else f"{text}:{dose!r}") + place


def _placed(text: str) -> tuple[str, str]:
    """What stands before a place, and the place; empty where none is written."""
    parts = _split(text, "@")
    place = parts[-1] if len(parts) > 1 and _PLACE.match(parts[-1].strip()) else ""
    return ("@".join(parts[:-1]), place) if place else (text, "")


def _split(text: str, mark: str) -> list[str]:
    parts, in_quotes = [""], False
    for char in text:
        in_quotes ^= char == '"'
        if char == mark and not in_quotes:
            parts.append("")
        else:
            parts[-1] += char
    if in_quotes:
        raise BadLane(f"{text!r} opens a double quote and does not close it.", _HOW)
    return parts


def _said(text: str) -> Prompting | None:
    """What a part of a lane says before the prompt; None for one that names an edit."""
    found = _SAID.fullmatch(text)
    if found is None:
        return None
    said, rest = found["text"].replace('""', '"'), found["rest"]
    is_count = re.fullmatch(r":[1-9]\d*", rest) is not None
    if not said.strip() or (not is_count if found["word"] == "shots" else rest):
        raise BadLane(f"{text!r} is nothing to say before a prompt.", 'Write prompt:"…", system:"…" or shots:"SET":4.')
    if found["word"] == "shots":
        return Prompting(shots=ShotsOf(said, int(rest[1:])))
    return Prompting(prefix=said) if found["word"] == "prompt" else Prompting(system=said)


def _together(parts: Sequence[Prompting | None]) -> Prompting | None:
    said = [part for part in parts if part is not None]
    whole = said[0] if said else None
    for other in said[1:]:
        whole = other if whole is None else whole.joined(other)
    return whole


def _named(text: str, is_name: IsName) -> Named:
    """One edit of a lane: its name, perhaps in quotes, perhaps with a dose, perhaps with a place."""
    if is_name(text):
        return Named(text)
    text, place = _placed(text)
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        name, rest = quoted["key"].replace('""', '"'), quoted["rest"]
        if rest and not (rest.startswith(":") and _NUMBER.fullmatch(rest[1:])):
            raise BadLane(f"{rest!r} stands behind the name {name!r} and is no dose.", _HOW)
        return Named(name, float(rest[1:]) if rest else None, place)
    if is_name(text):
        return Named(text, None, place)
    if old := _tail(text, "@"):
        raise BadLane(f"{text!r} writes a dose behind an @.", f"Write {text[: -len(old) - 1]}:{old}.")
    dose = _tail(text, ":")
    return Named(text[: -len(dose) - 1], float(dose), place) if dose else Named(text, None, place)


def _tail(text: str, mark: str) -> str:
    """The number behind the last mark; empty without."""
    _, found, tail = text.rpartition(mark)
    return tail if found and _NUMBER.fullmatch(tail) else ""
