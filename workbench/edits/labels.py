"""Lanes of loaded edits: their stacks, their names and what a record keeps of them, the same in every record, figure and table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.edits.base import Edit, Stack
from workbench.edits.lane import Lane, LaneLike, Named, lane_of
from workbench.errors import BadLane


def stack_of(lane: LaneLike) -> Stack:
    """The edits of a lane.

    Raises:
        BadLane: one of them is only named, or as `lane_of`.
    """
    found = lane_of(lane).edits
    stack = tuple(edit for edit in found if isinstance(edit, Edit))
    if len(stack) < len(found):
        name = next(edit.key for edit in found if not isinstance(edit, Edit))
        raise BadLane(f"{name!r} names an edit that is not loaded.", "Load it first: session.stack(…), or load_edit(folder).")
    return stack


def edit_label(edit: Edit) -> str:
    """An edit in words: its method and dose."""
    return f"{edit.header.method} × {edit.dose:.3g}"


def lane_label(stack: Sequence[Edit]) -> str:
    """A stack in words; the empty one is the base model."""
    return " + ".join(edit_label(edit) for edit in stack) or "base"


@dataclass(frozen=True)
class LaneLabel:
    """A column of a record: what it shows, and the ids of the edits behind it with their doses (none: the base model)."""

    label: str
    edit_ids: tuple[str, ...] = ()
    doses: tuple[float, ...] = ()

    @property
    def lane(self) -> Lane:
        """The lane that gave it, by the ids of its edits."""
        return Lane(tuple(map(Named, self.edit_ids, self.doses)))


def lane_labels(stacks: Sequence[Sequence[Edit]]) -> tuple[LaneLabel, ...]:
    """One label a lane; equal ones get a number so that each names one lane."""
    plain = [lane_label(stack) for stack in stacks]
    counts = [plain[: index + 1].count(label) for index, label in enumerate(plain)]
    labels = [label if plain.count(label) == 1 else f"{label} ({count})" for label, count in zip(plain, counts)]
    return tuple(
        LaneLabel(label, tuple(edit.id for edit in stack), tuple(edit.dose for edit in stack)) for label, stack in zip(labels, stacks)
    )
