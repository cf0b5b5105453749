"""One number a lane, with n, interval, and the paired change against the first lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from workbench.edits.base import Edit
from workbench.numerics.intervals import Interval, mean_interval, wilson
from workbench.shapes import Bool, Float

Better = Literal["higher", "lower", "neither"]
Link = Literal["identity", "exp"]
Stacks = Sequence[Sequence[Edit]]


@dataclass(frozen=True)
class Metric:
    """A score of each lane over the same items.

    `changes` are paired bootstrap intervals of lane minus first lane (ratios where `link` is exp); None for the first.
    `weights` are items' shares in the mean, such as tokens of a text. `unit` is empty for shares and ratios.
    """

    name: str
    title: str
    unit: str
    better: Better
    values: tuple[Interval, ...]
    changes: tuple[Interval | None, ...]
    per_item: Float[np.ndarray, "lane item"]
    weights: Float[np.ndarray, "item"]
    link: Link = "identity"
    is_share: bool = False

    @property
    def n(self) -> int:
        """Number of items that each value is over."""
        return int(self.per_item.shape[1])

    def pooled(self, groups: Sequence[Sequence[int]]) -> Metric:
        """The metric with lanes averaged item by item within each group: several seeds of a placebo become one lane."""
        rows = np.stack([self.per_item[list(group)].mean(0) for group in groups])
        if self.is_share:
            return share_metric(self.name, self.title, rows, self.better)
        return mean_metric(self.name, self.title, rows, self.unit, self.better, weights=self.weights, link=self.link)


def mean_metric(
    name: str,
    title: str,
    per_item: Float[np.ndarray, "lane item"],
    unit: str,
    better: Better,
    *,
    weights: Float[np.ndarray, "item"] | None = None,
    link: Link = "identity",
    seed: int = 0,
) -> Metric:
    """Summarise values item by item: mean (weighted), bootstrap interval, paired change."""
    rows = np.asarray(per_item, dtype=np.float64)
    w = np.ones(rows.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)

    def over_items(x: np.ndarray) -> Interval:
        found = mean_interval(x, w, seed=seed)
        return found.exp() if link == "exp" else found

    changes = (None, *(over_items(row - rows[0]) for row in rows[1:]))
    return Metric(name, title, unit, better, tuple(over_items(row) for row in rows), changes, rows, w, link)


def share_metric(
    name: str,
    title: str,
    per_item: Bool[np.ndarray, "lane item"] | Float[np.ndarray, "lane item"],
    better: Better,
    *,
    seed: int = 0,
) -> Metric:
    """Summarise successes: share, Wilson interval, paired bootstrap of the change.

    Values between 0 and 1 (successes averaged over seeds) get a bootstrap interval.
    """
    found = mean_metric(name, title, np.asarray(per_item, dtype=np.float64), "", better, seed=seed)
    whole = [bool(np.isin(row, (0.0, 1.0)).all()) for row in found.per_item]
    counted = [wilson(int(row.sum()), len(row)) if is_whole else value for row, value, is_whole in zip(found.per_item, found.values, whole)]
    return replace(found, values=tuple(counted), is_share=True)


def with_base(stacks: Stacks) -> tuple[tuple[Edit, ...], ...]:
    """The stacks with the base model as lane 0, to which all changes refer."""
    found = tuple(tuple(stack) for stack in stacks)
    return found if found and not found[0] else ((), *found)
