"""Whether there are enough demonstrations: how well held-out rows are told apart by a direction from 5, 10, 20 … of the rows to fit on.

Law: u is the unit difference of the means of n rows a side, drawn without replacement `draws` times; AUC = P(u·h⁺ > u·h⁻) over the
held-out rows, margin = mean(u·h⁺ − u·h⁻) / σ with σ² the mean variance within the sides. An estimate is the mean over the draws. Its
interval joins two errors that are nearly independent, in quadrature: which rows were drawn (2.5 % to 97.5 % of the draws), and which rows
are held out (`auc_interval`, `standardised_interval`). Where all rows are taken there is one draw, and the second alone remains.
Ref: docs/methods/shared.md §2 for the sites. A curve that is flat at its end says that more rows of this kind add little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.errors import NotEnoughData
from workbench.lenses.geometry import points_of, unit_difference
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, auc_interval, standardised_interval
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.sites import Site

SIZES = (5, 10, 20, 40, 80)
FEWEST_HELD = 10
"""Fewest held-out rows a side: with fewer the intervals say nothing."""


@dataclass(frozen=True)
class EnoughPairs:
    """AUC and margin (in standard deviations within a side) by the number of rows a side, `sizes`; the last size is all of them."""

    model: str
    data: str
    sides: tuple[str, str]
    layer: int
    sizes: tuple[int, ...]
    n_held: int
    auc: tuple[Interval, ...]
    margin: tuple[Interval, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a size."""
        return [
            {"pairs": n, "AUC": a.estimate, "low": a.bounds[0], "high": a.bounds[1]}
            | {"margin": m.estimate, "margin low": m.bounds[0], "margin high": m.bounds[1]}
            for n, a, m in zip(self.sizes, self.auc, self.margin)
        ]

    @property
    def is_flat(self) -> bool:
        """Whether the last doubling changed the AUC by less than half the width of its interval."""
        if len(self.auc) < 2:
            return False
        last, before = self.auc[-1], self.auc[-2]
        return abs(last.estimate - before.estimate) < (last.high - last.low) / 2


def enough_pairs(
    model: LanguageModel,
    demonstrations: Demonstrations,
    *,
    layer: int | None = None,
    sizes: Sequence[int] = SIZES,
    draws: int = 40,
    seed: int = 0,
    progress: Progress | None = None,
) -> EnoughPairs:
    """Read both sides after one layer (None: two thirds of the way), and tell held-out rows apart by ever more of the others.

    Raises:
        NotEnoughData: fewer rows to fit on than the smallest size, or fewer than `FEWEST_HELD` held out. Others: as `record.gather`.
    """
    tell = progress or silent()
    sides, points, batch = points_of(model, demonstrations)
    at = 2 * model.info.n_layers // 3 if layer is None else layer
    site = Site("resid_post", at)
    first, held = np.array([is_first for _, is_first, _ in points]), np.array([is_held for *_, is_held in points])
    places = np.array([place for place, *_ in points])
    fit = [np.flatnonzero((first == side) & ~held) for side in (True, False)]
    n_fit, n_held = min(map(len, fit)), int(min((first & held).sum(), (~first & held).sum()))
    if n_fit < min(sizes) or n_held < FEWEST_HELD:
        what = f"{n_fit} rows a side to fit on and {n_held} held out in {demonstrations.name!r}; {min(sizes)} and {FEWEST_HELD} are needed."
        raise NotEnoughData(what, "Add rows, or draw the splits anew.")
    x = gather(model, batch, [site], progress=tell.part(0.0, 0.8))[site].double().cpu().numpy()
    good, bad = x[first & held], x[~first & held]
    paired = sides == ("positive", "negative") and np.array_equal(places[first & held], places[~first & held])
    taken = sorted({n for n in sizes if n < n_fit} | {n_fit})
    rng, found = np.random.default_rng(seed), list[tuple[Interval, Interval]]()
    for i, n in enumerate(taken):
        told: list[tuple[Interval, Interval]] = []
        for _ in range(draws if n < n_fit else 1):
            tell(0.8 + 0.2 * i / len(taken), f"{n} pairs")
            u = unit_difference(x, first, _drawn(fit, n, len(x), paired, rng))
            told.append((auc_interval(good @ u, bad @ u, paired=paired), standardised_interval(good @ u, bad @ u, paired=paired)))
        found.append((_joined([a for a, _ in told], (0.0, 1.0)), _joined([m for _, m in told])))
    tell(1.0, "Done")
    auc, margin = tuple(a for a, _ in found), tuple(m for _, m in found)
    return EnoughPairs(model.info.name, demonstrations.name, sides, at, tuple(taken), n_held, auc, margin)


def _drawn(fit: list[np.ndarray], n: int, n_points: int, paired: bool, rng: np.random.Generator) -> np.ndarray:
    """Which points n rows a side are, as a mask; both answers of a pair go together."""
    mask = np.zeros(n_points, dtype=bool)
    if paired and len(fit[0]) == len(fit[1]):
        chosen = rng.choice(len(fit[0]), n, replace=False)
        mask[fit[0][chosen]] = mask[fit[1][chosen]] = True
    else:
        for side in fit:
            mask[rng.choice(side, n, replace=False)] = True
    return mask


def _joined(told: Sequence[Interval], within: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """The mean of several estimates, with what varies between them and within each, in quadrature."""
    values = np.array([one.estimate for one in told])
    mean = float(values.mean())
    if (none := next((one for one in told if one.withheld), None)) is not None:
        return replace(none, estimate=mean)
    low, high = (float(value) for value in np.quantile(values, (0.025, 0.975)))
    down = np.hypot(mean - low, mean - float(np.mean([one.low for one in told])))
    up = np.hypot(high - mean, float(np.mean([one.high for one in told])) - mean)
    return Interval(
        mean, max(within[0], mean - float(down)), min(within[1], mean + float(up)), told[0].n, f"{told[0].method}, {len(told)} draws"
    )
