"""Intervals for scores: Wilson for shares, percentile bootstrap over items for means, ratios and paired differences.

Ref: docs/methods/shared.md §9.3. Items are the unit of resampling: an interval speaks about other items of the same kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from workbench.shapes import Float

LEVEL = 0.95
_CHUNK = 4_000_000  # resampled values held at once


@dataclass(frozen=True)
class Interval:
    """An estimate over `n` items with its interval; the bounds are NaN where one item cannot give them."""

    estimate: float
    low: float
    high: float
    n: int
    method: str

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.estimate:.3g}  n={self.n}"
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]  n={self.n}"

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of 0; False where it has no bounds."""
        return self.low > 0 or self.high < 0

    def exp(self) -> Interval:
        """The interval of the exponential: bounds of a percentile interval map through any rising function."""
        return replace(self, estimate=math.exp(self.estimate), low=math.exp(self.low), high=math.exp(self.high))


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share: never leaves [0, 1], and has width at 0 and at 1.

    centre = (p + z²/2n) / (1 + z²/n), half = z/(1 + z²/n) · √(p(1−p)/n + z²/4n²).
    """
    z, p = NormalDist().inv_cdf(0.5 + level / 2), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the bound is exact; rounding would put it just beside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(p, low, high, n, "Wilson")


def mean_interval(
    values: Float[np.ndarray, "item"],
    weights: Float[np.ndarray, "item"] | None = None,
    *,
    level: float = LEVEL,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of Σ wᵢxᵢ / Σ wᵢ over items.

    With weights it is a ratio of sums, such as nats per token over texts of unequal length. Paired differences of two
    models are the mean of `a − b` item by item.
    """
    x = np.asarray(values, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    estimate = float((w * x).sum() / w.sum())
    if len(x) < 2:
        return Interval(estimate, math.nan, math.nan, len(x), "one item")
    rng = np.random.default_rng(seed)
    per_chunk = max(1, _CHUNK // len(x))
    means: list[np.ndarray] = []
    for start in range(0, draws, per_chunk):
        index = rng.integers(0, len(x), (min(per_chunk, draws - start), len(x)))
        means.append((w * x)[index].sum(1) / w[index].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), len(x), "bootstrap")
