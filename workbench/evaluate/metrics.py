"""One number a lane, with n, interval, and the paired change against the first lane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from workbench.edits.labels import edits_of
from workbench.edits.lane import Lane, LanesLike, lanes_of
from workbench.edits.prompting import Prompting
from workbench.numerics.intervals import Interval, mean_interval, paired_share_interval, quantile_interval, share_interval
from workbench.shapes import Bool, Float, Int

HARDLY_MOVES = 1e-5
"""Nats a token of KL below which a lane hardly moves the model at all."""
ROUNDING = 1e-5
"""Change of an item's score that is no more than the rounding of a few dozen float32 terms."""
Better = Literal["higher", "lower", "neither"]
Link = Literal["identity", "exp"]
Lanes = Sequence[Lane]


@dataclass(frozen=True)
class Metric:
    """A score of each lane over the same items.

    `changes` are paired intervals of lane minus first lane, in shares of the first lane where `link` is exp; None for the first.
    `weights` are items' shares in the mean, such as tokens of a text. `unit` is empty for shares and ratios.
    """

    name: str
    title: str
    unit: str
    better: Better
    values: tuple[Interval, ...]
    changes: tuple[Interval | None, ...]
    per_item: Float[np.ndarray, "lane item"]
    weights: Float[np.ndarray, " item"]
    link: Link = "identity"
    is_share: bool = False
    texts: Int[np.ndarray, " item"] | None = None
    """Of a 95th percentile, whose items are tokens: the text that each is of."""

    @property
    def n(self) -> int:
        """Number of items that each value is over; of a percentile, of texts."""
        return int(self.per_item.shape[1]) if self.texts is None else self.values[0].n

    def between(self, lane: int, other: int) -> Interval:
        """The paired interval of one lane minus another, in the metric's own unit (exact where both are successes)."""
        if self.texts is not None:
            gap = self.values[lane].estimate - self.values[other].estimate
            return Interval(gap, math.nan, math.nan, self.n, "withheld", "percentiles have no pairs")
        mine, theirs = self.per_item[lane], self.per_item[other]
        if self.is_share and np.isin(np.stack([mine, theirs]), (0.0, 1.0)).all():
            return paired_share_interval(theirs == 1.0, mine == 1.0)
        return mean_interval(mine - theirs, self.weights)

    def moved(self, lane: int) -> tuple[int, int]:
        """How many items of a lane are better than the base's, and how many worse; for `neither`, larger and smaller.

        Of a lane that is a mean over several, as a placebo's, successes are counted a run: half of a success is half an item.
        """
        change = self.per_item[lane] - self.per_item[0]
        change = -change if self.better == "lower" else change
        if self.is_share:
            return round(float(change.clip(min=0).sum())), round(float((-change).clip(min=0).sum()))
        return int((change > ROUNDING).sum()), int((change < -ROUNDING).sum())

    def pooled(self, groups: Sequence[Sequence[int]]) -> Metric:
        """The metric with lanes averaged item by item within each group: several seeds of a placebo become one lane."""
        rows = np.stack([self.per_item[list(group)].mean(0) for group in groups])
        if self.texts is not None:  # a mean over seeds would hide the tail of each: all their tokens are one lane's
            told = [tail_interval(self.per_item[list(group)], self.texts) for group in groups]
            return replace(self, per_item=rows, values=tuple(told), changes=(None, *told[1:]))
        if self.is_share:
            return share_metric(self.name, self.title, rows, self.better)
        return mean_metric(self.name, self.title, rows, self.unit, self.better, weights=self.weights, link=self.link)


def scores_of(metrics: Sequence[Metric], lane: int) -> dict[str, Any]:
    """A lane as a table row: each metric with `_low` and `_high`, None where they are withheld, and `_n`; `n` is of the first."""
    found: dict[str, Any] = {}
    for item in metrics:
        low, high = item.values[lane].bounds
        found |= {item.name: item.values[lane].estimate, f"{item.name}_low": low, f"{item.name}_high": high, f"{item.name}_n": item.n}
    return found | {"n": metrics[0].n}


def mean_metric(
    name: str,
    title: str,
    per_item: Float[np.ndarray, "lane item"],
    unit: str,
    better: Better,
    *,
    weights: Float[np.ndarray, " item"] | None = None,
    link: Link = "identity",
) -> Metric:
    """Summarise values item by item: mean (weighted), interval, paired change."""
    rows = np.asarray(per_item, dtype=np.float64)
    w = np.ones(rows.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)

    values, changes = [mean_interval(row, w) for row in rows], [mean_interval(row - rows[0], w) for row in rows[1:]]
    if link == "exp":
        values, changes = [value.exp() for value in values], [change.exp().minus(1.0) for change in changes]
    return Metric(name, title, unit, better, tuple(values), (None, *changes), rows, w, link)


def share_metric(
    name: str,
    title: str,
    per_item: Bool[np.ndarray, "lane item"] | Float[np.ndarray, "lane item"],
    better: Better,
) -> Metric:
    """Summarise successes: share, exact interval, paired change.

    Values between 0 and 1 (successes averaged over seeds) get the intervals of means.
    """
    found = mean_metric(name, title, np.asarray(per_item, dtype=np.float64), "", better)
    values, changes = list(found.values), list(found.changes)
    whole = [bool(np.isin(row, (0.0, 1.0)).all()) for row in found.per_item]
    for lane, hits in enumerate(found.per_item == 1.0):
        if whole[lane]:
            values[lane] = share_interval(int(hits.sum()), found.n)
        if lane and whole[lane] and whole[0]:
            changes[lane] = paired_share_interval(found.per_item[0] == 1.0, hits)
    return replace(found, values=tuple(values), changes=tuple(changes), is_share=True)


def tail_metric(name: str, title: str, per_token: Float[np.ndarray, "lane token"], texts: Int[np.ndarray, " token"], unit: str) -> Metric:
    """Summarise damage token by token: the 95th percentile. Lane 0 is undamaged, so a lane's change is its value."""
    values = tuple(tail_interval(row[None], texts) for row in per_token)
    return Metric(name, title, unit, "lower", values, (None, *values[1:]), per_token, np.ones(len(texts)), texts=texts)


def tail_interval(runs: Float[np.ndarray, "run token"], texts: Int[np.ndarray, " token"]) -> Interval:
    """The 95th percentile over the tokens of several runs on the same texts."""
    return quantile_interval(runs.ravel(), np.tile(texts, len(runs)))


def by_prompting(lanes: Lanes) -> list[tuple[Prompting | None, list[int]]]:
    """Which lanes say the same before every prompt, so that they can be run on the same tokens."""
    said = list(dict.fromkeys(lane.prompting for lane in lanes))
    return [(one, [at for at, lane in enumerate(lanes) if lane.prompting == one]) for one in said]


def with_base(lanes: LanesLike) -> tuple[Lane, ...]:
    """Loaded lanes, with the base model as lane 0, to which all changes refer. Raises: as `lanes_of`, `edits_of`."""
    found = lanes_of(lanes)
    for lane in found:
        edits_of(lane)
    return found if found and found[0] == Lane() else (Lane(), *found)
