"""The two sides of a set: the two answers of each row, or two sets of prompts.

Ref: docs/methods/are.md §3.1. A row is a prompt of one side if its label (or `class:` tag) is target or anti_target, or if rows carry
`concept:` tags with two names. Else a row with both answers gives one text to each side: prompt + positive is target, prompt + negative
anti-target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations

Side = Literal["target", "anti_target"]
TextSide = list[tuple[Prompt, str | None]]
Sides = dict[Side, TextSide]
SIDES: tuple[Side, ...] = ("target", "anti_target")
GENERAL = "role:general"
"""Tag of rows that are about something else: on no side, and to be left as they are."""


def sided(demonstrations: Demonstrations, target: str | None = None, names: Sequence[str] | None = None) -> Sides:
    """Prompts (and continuations) of each side, in the order of the rows.

    Args:
        target: which of the names in `concept:` tags is the target; the first seen if none.
        names: those of the rows that a fit sees, whatever the order in these; the rows' own if None.
    """
    found: Sides = {"target": [], "anti_target": []}
    names = concepts(demonstrations) if names is None else names
    for row in demonstrations:
        side = side_of(row, names, target)
        if side is not None:
            found[side].append((row.prompt, None))
    if any(found.values()):
        return found
    for row in demonstrations.having("positive", "negative").where(lambda row: GENERAL not in row.tags):
        found["target"].append((row.prompt, row.positive))
        found["anti_target"].append((row.prompt, row.negative))
    return found


def are_pairs(demonstrations: Demonstrations) -> bool:
    """Whether each row has a good and a bad answer; rows about something else do not count."""
    rows = [row for row in demonstrations if GENERAL not in row.tags]
    return bool(rows) and all(row.positive and row.negative for row in rows)


def two_sides(demonstrations: Demonstrations, names: Sequence[str] | None = None) -> Sides:
    """The two answers of each row where every row has both, whatever else it is tagged with; otherwise as `sided`."""
    if not are_pairs(demonstrations):
        return sided(demonstrations, names=names)
    rows = [row for row in demonstrations if GENERAL not in row.tags]
    return {"target": [(row.prompt, row.positive) for row in rows], "anti_target": [(row.prompt, row.negative) for row in rows]}


def rows_of_sides(demonstrations: Demonstrations, names: Sequence[str] | None = None) -> dict[Side, list[Demonstration]]:
    """The rows behind the texts of `two_sides`, in the same order: of pairs each row stands on both sides."""
    names = concepts(demonstrations) if names is None else names
    found: dict[Side, list[Demonstration]] = {side: [row for row in demonstrations if side_of(row, names, None) == side] for side in SIDES}
    if any(found.values()) and not are_pairs(demonstrations):
        return found
    pairs = [row for row in demonstrations.having("positive", "negative") if GENERAL not in row.tags]
    return {side: pairs for side in SIDES}


def behaviour(demonstrations: Demonstrations) -> tuple[str, ...]:
    """Positive answers of the rows that are about the concept."""
    return tuple(row.positive for row in demonstrations if row.positive and GENERAL not in row.tags)


def concepts(demonstrations: Demonstrations) -> list[str]:
    """Names in `concept:` tags, unless labels say the sides already."""
    if any(side_of(row, (), None) for row in demonstrations):
        return []
    return list(dict.fromkeys(name for row in demonstrations for name in row.all_tagged("concept")))


def side_of(row: Demonstration, names: Sequence[str], target: str | None) -> Side | None:
    """The side of a row that is a prompt of one, by its label, its `class:` tag, or its concept among the names; else None."""
    for word in (row.tagged("class"), (row.label or "").strip()):
        if word == "target":
            return "target"
        if word == "anti_target":
            return "anti_target"
    concept = row.tagged("concept")
    if concept is None or len(names) < 2:
        return None
    return "target" if concept == (target or names[0]) else "anti_target"
