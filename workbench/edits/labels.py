"""Names of lanes, the same in every record, figure and table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.edits.base import Edit


def edit_label(edit: Edit) -> str:
    """An edit in words: its method and dose."""
    return f"{edit.header.method} × {edit.dose:.3g}"


def lane_label(stack: Sequence[Edit]) -> str:
    """A stack in words; the empty one is the base model."""
    return " + ".join(edit_label(edit) for edit in stack) or "base"


@dataclass(frozen=True)
class Lane:
    """A column of a record: what it shows, and the ids of the edits behind it (none: the base model)."""

    label: str
    edit_ids: tuple[str, ...] = ()


def lane_records(stacks: Sequence[Sequence[Edit]]) -> tuple[Lane, ...]:
    """One lane a stack; equal labels get a number so that each names one lane."""
    plain = [lane_label(stack) for stack in stacks]
    counts = [plain[: index + 1].count(label) for index, label in enumerate(plain)]
    labels = [label if plain.count(label) == 1 else f"{label} ({count})" for label, count in zip(plain, counts)]
    return tuple(Lane(label, tuple(edit.id for edit in stack)) for label, stack in zip(labels, stacks))
