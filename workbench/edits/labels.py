"""Lanes of loaded edits: their stacks, their names and what a record keeps of them, the same in every record, figure and table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.edits.base import Edit, Stack
from workbench.edits.lane import Lane, LaneLike, Named, lane_of
from workbench.edits.prompting import Prompting
from workbench.errors import BadLane
from workbench.place import read_place


def stack_of(lane: LaneLike) -> Stack:
    """The edits of a lane that is nothing but edits.

    Raises:
        BadLane: it says something before prompts, one of its edits is only named, or as `lane_of`.
    """
    whole = lane_of(lane)
    if whole.prompting is not None:
        raise BadLane(f"{str(whole)!r} says something before prompts; needed are edits alone.", "Write it into the prompt itself.")
    return edits_of(whole)


def edits_of(lane: Lane) -> Stack:
    """The loaded edits of a lane, whatever it says before prompts. Raises: BadLane, if one is only named."""
    found = lane.edits
    stack = tuple(edit for edit in found if isinstance(edit, Edit))
    if len(stack) < len(found):
        name = next(edit.key for edit in found if not isinstance(edit, Edit))
        raise BadLane(f"{name!r} names an edit that is not loaded.", "Load it first: session.stack(…), or load_edit(folder).")
    return stack


def edit_name(edit: Edit) -> str:
    """What records, figures and tables call an edit whatever its dose: the name it was given, else its method."""
    return edit.called or edit.header.method


def edit_label(edit: Edit) -> str:
    """An edit in words: its name and dose, and where it acts if a lane or its own place says so."""
    return f"{edit_name(edit)} × {edit.dose:.3g}" + (f" {read_place(edit.acts_at).label}" if edit.acts_at else "")


def lane_label(lane: Lane | Sequence[Edit]) -> str:
    """A lane in words; the empty one is the base model."""
    stack, said = (edits_of(lane), lane.prompting) if isinstance(lane, Lane) else (lane, None)
    return " + ".join([*map(edit_label, stack), *([said.label] if said else [])]) or "base"


Control = Literal["", "placebo", "shuffled"]


@dataclass(frozen=True)
class LaneLabel:
    """A column of a record: what it shows, the ids of the edits behind it with their doses (none: the base model), and what is said.

    `control` is what it controls for, where it is no lane that somebody asked for: random edits of equal size, or a fit on shuffled sides.
    `places`: where the lane lets each edit act; empty as it acts by itself, and without any where all do.
    """

    label: str
    edit_ids: tuple[str, ...] = ()
    doses: tuple[float, ...] = ()
    prompting: Prompting | None = None
    control: Control = ""
    places: tuple[str, ...] = ()

    @property
    def lane(self) -> Lane:
        """The lane that gave it, by the ids of its edits."""
        return Lane(tuple(map(Named, self.edit_ids, self.doses, self.places or ("",) * len(self.edit_ids))), self.prompting)


def _places(stack: Sequence[Edit]) -> tuple[str, ...]:
    return tuple(edit.where for edit in stack) if any(edit.where for edit in stack) else ()


def lane_labels(lanes: Sequence[Lane | Sequence[Edit]]) -> tuple[LaneLabel, ...]:
    """One label a lane; equal ones get a number so that each names one lane."""
    plain = [lane_label(lane) for lane in lanes]
    counts = [plain[: index + 1].count(label) for index, label in enumerate(plain)]
    labels = [label if plain.count(label) == 1 else f"{label} ({count})" for label, count in zip(plain, counts)]
    stacks = [edits_of(lane) if isinstance(lane, Lane) else lane for lane in lanes]
    said = [lane.prompting if isinstance(lane, Lane) else None for lane in lanes]
    return tuple(
        LaneLabel(label, tuple(edit.id for edit in stack), tuple(edit.dose for edit in stack), one, places=_places(stack))
        for label, stack, one in zip(labels, stacks, said)
    )
