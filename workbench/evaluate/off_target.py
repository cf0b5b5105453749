"""What edits do to tasks that they are not about, and what two edits do to one another.

Each edit is measured on every set beside a random edit of its size: a change beyond chance and beyond the random edit's is the edit's own.
Two edits interact where the stack changes a score by more or less than both changes together; slopes foretell the sign without running the
stack: the second edit's effect to first order, behind the first less without it. Ref: docs/methods/shared.md §9.9.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.base import Edit
from workbench.edits.labels import lane_labels
from workbench.edits.lane import Lane
from workbench.edits.placebo import rotated
from workbench.errors import BadLane, NotEnoughData
from workbench.evaluate.benefit import benefit
from workbench.evaluate.fitted_rows import without_fitted
from workbench.evaluate.metrics import Metric
from workbench.evaluate.slopes import asked, behind, effects, margins, sites_of
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, mean_interval
from workbench.progress import Progress, silent
from workbench.shapes import Float

_SLOPED = ("margin_nats", "log_prob_nats")
"""Scores that slopes are of; a stack is measured by the first of them that a set has, else by its first mean."""


@dataclass(frozen=True)
class OffTargetCell:
    """What one edit does to one set: its paired change of the first score, a random edit's of its size, and the change beyond that one.

    `is_own`: beyond chance and beyond the random edit. `breaks`: the set is protected, and the score gets worse beyond chance.
    """

    edit: str
    data: str
    title: str
    base: Interval
    change: Interval
    random: Interval
    beyond: Interval
    is_own: bool
    is_protected: bool
    breaks: bool


@dataclass(frozen=True)
class Interaction:
    """Two edits on one set, in the order in which they act: both single changes together, the stack's change, and its surplus over them.

    `foretold` is the surplus that slopes foretell, where both edits change activations; in the unit of the score, a mean over rows.
    """

    first: str
    second: str
    data: str
    title: str
    predicted: Interval
    measured: Interval
    surplus: Interval
    foretold: float | None


@dataclass(frozen=True)
class OffTarget:
    """Edits against sets, and pairs of edits on each."""

    model: str
    split: str
    cells: tuple[OffTargetCell, ...]
    interactions: tuple[Interaction, ...]

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        own = [cell for cell in self.cells if cell.is_own]
        broken = [f"{cell.edit} on {cell.data}" for cell in self.cells if cell.breaks]
        text = f"**{len(own)} of {len(self.cells)}** changes are beyond chance and beyond a random edit of equal size"
        text += ", each told at 95 %: one in twenty may still be chance." if len(self.cells) > 1 else "."
        if any(cell.is_protected for cell in self.cells):
            text += f" Protected sets: {'**none is harmed** beyond chance' if not broken else '**harmed** by ' + ', '.join(broken)}."
        beyond = sum(bool(one.surplus.sign) for one in self.interactions)
        return text + (f" {beyond} of {len(self.interactions)} stacks differ from both edits together." if self.interactions else "")

    def table(self) -> list[dict[str, Any]]:
        """One table row an edit and set."""
        return [
            {
                "edit": one.edit,
                "set": one.data,
                "score": one.title,
                "without": one.base.told(".3g"),
                "change": one.change.told("+.3g"),
                "random edit": one.random.told("+.3g"),
                "beyond it": one.beyond.told("+.3g"),
                "says": "harms what is protected" if one.breaks else "its own" if one.is_own else "within chance or noise of its size",
                "n": one.change.n,
            }
            for one in self.cells
        ]

    def stack_table(self) -> list[dict[str, Any]]:
        """One table row an ordered pair of edits and set."""
        return [
            {
                "first": one.first,
                "then": one.second,
                "set": one.data,
                "score": one.title,
                "both together": one.predicted.told("+.3g"),
                "stack": one.measured.told("+.3g"),
                "interaction": one.surplus.told("+.3g"),
                "foretold": None if one.foretold is None else round(one.foretold, 4),
                "n": one.surplus.n,
            }
            for one in self.interactions
        ]


def off_target(
    model: LanguageModel,
    edits: Sequence[Edit],
    sets: Mapping[str, Demonstrations],
    *,
    protected: Collection[str] = (),
    split: Split | None = "test",
    stacks: bool = True,
    progress: Progress | None = None,
) -> OffTarget:
    """Measure each edit, a random edit beside it, and each ordered pair of edits on every set.

    Args:
        sets: by the name that tables show. protected: the names of those that no edit may harm.
        stacks: whether pairs of edits are measured too.

    Raises:
        BadLane: no edit. NotEnoughData: no set, or one of which nothing can be scored. Others: as `benefit`.
    """
    if not edits:
        raise BadLane("There is no edit to measure off its target.", "Give one edit or several.")
    if not sets:
        raise NotEnoughData("There is no set to measure on.", "Name the sets of the tasks that the edits should leave alone.")
    tell, cells, found = progress or silent(), list[OffTargetCell](), list[Interaction]()
    pairs = list(permutations(range(len(edits)), 2)) if stacks else []
    lanes = [Lane((edit,)) for edit in edits] + [Lane((rotated(edit, 0),)) for edit in edits]
    lanes += [Lane((edits[a], edits[b])) for a, b in pairs]
    names = [label.label for label in lane_labels(lanes[: len(edits)])]
    for at, (name, rows) in enumerate(sets.items()):
        part = tell.part(at / len(sets), (at + 1) / len(sets))
        told = benefit(model, rows, lanes, split=split, progress=part.part(0.0, 0.7))
        cells += [_cell(told.metrics[0], names, i, name, name in protected) for i in range(len(edits))]
        scored = {one.name: one for one in told.metrics if not one.is_share}
        score = next((scored[name] for name in (*_SLOPED, *scored) if name in scored), None)
        if pairs and score is not None:
            ahead = _foretold(model, rows, edits, split, part.part(0.7, 1.0)) if score.name in _SLOPED else {}
            found += [_interaction(score, names, name, a, b, 2 * len(edits) + k + 1, ahead.get((a, b))) for k, (a, b) in enumerate(pairs)]
    tell(1.0, "Done")
    return OffTarget(model.info.name, split or "all", tuple(cells), tuple(found))


def _cell(score: Metric, names: Sequence[str], edit: int, data: str, is_protected: bool) -> OffTargetCell:
    mine, other = edit + 1, edit + 1 + len(names)
    change, beyond = score.between(mine, 0), score.between(mine, other)
    wanted = {"higher": 1, "lower": -1}.get(score.better)
    return OffTargetCell(
        names[edit], data, score.title, score.values[0], change, score.between(other, 0), beyond,
        bool(change.sign) and change.sign == beyond.sign, is_protected, is_protected and wanted is not None and change.sign == -wanted,
    )  # fmt: skip


def _interaction(score: Metric, names: Sequence[str], data: str, a: int, b: int, lane: int, foretold: float | None) -> Interaction:
    x = score.per_item
    both, stack = x[a + 1] + x[b + 1] - 2 * x[0], x[lane] - x[0]
    predicted, measured, surplus = (mean_interval(one, score.weights) for one in (both, stack, stack - both))
    return Interaction(names[a], names[b], data, score.title, predicted, measured, surplus, foretold)


def _foretold(
    model: LanguageModel, rows: Demonstrations, edits: Sequence[Edit], split: Split | None, progress: Progress
) -> dict[tuple[int, int], float]:
    """For ordered pairs of edits of activations: what slopes say of the second's effect behind the first, less of its effect alone."""
    sites = {i: at for i, edit in enumerate(edits) if (at := sites_of(edit)) is not None}
    if len(sites) < 2:
        return {}
    these = asked(without_fitted(rows, split, list(edits)).rows, rows)
    known = list(sites)
    stacks = [(), *((edits[i],) for i in known)]
    _, worst = margins(model, these, stacks, progress.part(0.0, 0.2))
    every = tuple(dict.fromkeys(site for at in sites.values() for site in at))
    moves = [behind(model, edits[i]) for i in known]
    told: list[Float[np.ndarray, "edit row"]] = []
    for k, stack in enumerate(stacks):
        part = progress.part(0.2 + 0.8 * k / len(stacks), 0.2 + 0.8 * (k + 1) / len(stacks))
        told.append(effects(model, these, worst[k], stack, every, moves, part))
    alone = told[0].mean(1)
    return {(a, b): float(told[i + 1].mean(1)[j] - alone[j]) for i, a in enumerate(known) for j, b in enumerate(known) if a != b}
