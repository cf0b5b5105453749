"""A difference in standard deviations is covered from the fewest held-out rows on; without the deviation's own error it was not."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.lenses.enough import FEWEST_HELD
from workbench.numerics.intervals import mean_interval, standardised_interval

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
    for is_paired, n in ((True, 10), (False, 20)):
        found = standardised_interval(np.ones(10), np.zeros(10), paired=is_paired)
        assert (found.withheld, found.n, found.bounds) == ("nothing varies within the sides", n, (None, None)) and np.isnan(found.estimate)
    for sides in ((np.ones(1), np.arange(9.0)), (np.arange(9.0), np.ones(1))):
        assert standardised_interval(*sides).withheld == "nothing varies within the sides", "one row has no spread"
    assert standardised_interval(np.arange(2.0), np.arange(2.0)).withheld.startswith("4 items by weight"), "two rows have one"


def weighted(high: np.ndarray, low: np.ndarray, weights: np.ndarray, others: np.ndarray) -> float:
    """The difference of two samples in standard deviations, where items count by weights that sum to 1."""
    means, squares = [], []
    for x, w in ((high, weights), (low, others)):
        means.append(w @ x)
        squares.append(len(x) / (len(x) - 1) * (w @ (x - w @ x) ** 2))
    return float((means[0] - means[1]) / np.sqrt(np.mean(squares)))


def influences(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each item adds to the difference as its weight grows, by a central difference."""
    step, found = 1e-5, ([], [])
    sides = [np.full(len(x), 1 / len(x)) for x in (high, low)]
    for side, x in enumerate((high, low)):
        for item in range(len(x)):
            towards = np.eye(len(x))[item] - sides[side]
            ends = [weighted(high, low, *(w + by * towards if i == side else w for i, w in enumerate(sides))) for by in (step, -step)]
            found[side].append((ends[0] - ends[1]) / (2 * step))
    return np.array(found[0]), np.array(found[1])


def test_it_is_the_interval_of_the_mean_of_what_each_item_adds() -> None:
    draw = np.random.default_rng(2)
    high, low = draw.exponential(2, 12), draw.normal(0, 1, 18)
    d, (mine, theirs) = standardised_interval(high, low).estimate, influences(high, low)
    by_side = np.repeat([1 / 12, 1 / 18], [12, 18])
    for level in (0.95, 0.5):
        found, expected = (
            standardised_interval(high, low, level=level),
            mean_interval(d + 2 * np.concatenate([mine, theirs]), by_side, level=level),
        )
        assert found.bounds == pytest.approx(expected.bounds, rel=1e-6) and found.n == 30
        mine_p, theirs_p = influences(high, low[:12])
        found = standardised_interval(high, low[:12], paired=True, level=level)
        expected = mean_interval(found.estimate + mine_p + theirs_p, level=level)
        assert found.bounds == pytest.approx(expected.bounds, rel=1e-6) and found.n == 12
