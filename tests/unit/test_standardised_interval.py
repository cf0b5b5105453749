"""A difference in standard deviations is covered from the fewest held-out rows on; without the deviation's own error it was not."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.lenses.enough import FEWEST_HELD
from workbench.numerics.intervals import standardised_interval

RUNS = 1000


def covered(true: float, rho: float, paired: bool, *, deviation_counts: bool = True) -> float:
    """The share of intervals that hold the truth; without the deviation's error, of the differences over a spread taken for known."""
    draw, n, hits = np.random.default_rng(0), FEWEST_HELD, 0
    for _ in range(RUNS):
        shared = draw.normal(size=n)
        high, low = (np.sqrt(rho) * shared + np.sqrt(1 - rho) * draw.normal(size=n) for _ in range(2))
        high = high + true
        if deviation_counts:
            found = standardised_interval(high, low, paired=paired)
            hits += found.low <= true <= found.high
        else:
            spread = np.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2)
            half = 1.96 * (high - low).std(ddof=1) / np.sqrt(n)
            hits += abs((high - low).mean() - true * spread) <= half
    return hits / RUNS


@pytest.mark.parametrize("true", [0.0, 1.0, 3.0])
def test_the_truth_is_covered_of_pairs_and_of_sides_apart(true: float) -> None:
    assert covered(true, 0.0, paired=False) >= 0.93
    assert all(covered(true, rho, paired=True) >= 0.93 for rho in (0.0, 0.6))


def test_a_spread_that_is_taken_for_known_covers_too_little() -> None:
    assert covered(3.0, 0.6, paired=True, deviation_counts=False) < 0.7


def test_the_estimate_is_the_difference_over_the_mean_spread_and_nothing_is_told_where_nothing_varies() -> None:
    draw = np.random.default_rng(1)
    high, low = draw.normal(2, 1, 30), draw.normal(0, 2, 20)
    expected = (high.mean() - low.mean()) / np.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2)
    assert standardised_interval(high, low).estimate == pytest.approx(expected)
    assert standardised_interval(high[:20], low, paired=True).estimate == pytest.approx(
        (high[:20].mean() - low.mean()) / np.sqrt((high[:20].var(ddof=1) + low.var(ddof=1)) / 2)
    )
    assert "nothing varies" in standardised_interval(np.ones(10), np.zeros(10), paired=True).withheld
