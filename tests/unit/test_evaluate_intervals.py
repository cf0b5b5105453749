"""Intervals and metrics: coverage, exactness, pairing, shares, ratios, pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, multinomial, skew, t, ttest_1samp

from workbench.edits.lane import Lane
from workbench.evaluate.metrics import mean_metric, share_metric, with_base
from workbench.numerics.intervals import (
    MIN_ITEMS,
    Interval,
    auc_interval,
    mean_interval,
    paired_share_interval,
    quantile_interval,
    share_interval,
)


def test_the_bounds_of_a_share_are_where_an_exact_test_just_rejects() -> None:
    found = share_interval(81, 263)
    assert found.estimate == 81 / 263 and found.n == 263
    assert binom.sf(80, 263, found.low) == pytest.approx(0.025, abs=1e-6)
    assert binom.cdf(81, 263, found.high) == pytest.approx(0.025, abs=1e-6)
    half = share_interval(81, 263, 0.5)
    assert binom.sf(80, 263, half.low) == pytest.approx(0.25, abs=1e-6)
    assert share_interval(0, 10).low == 0 and share_interval(0, 10).high == pytest.approx(1 - 0.025**0.1)
    assert share_interval(10, 10).high == 1 and share_interval(10, 10).low == pytest.approx(0.025**0.1)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100])
def test_a_share_is_covered_whatever_the_truth_and_wilsons_interval_is_not(n: int) -> None:
    def least(bounds: Callable[[int], tuple[float, float]]) -> float:
        truths, low, high = np.linspace(1e-4, 1 - 1e-4, 3000), *np.array([bounds(k) for k in range(n + 1)]).T
        inside = (low <= truths[:, None]) & (truths[:, None] <= high)
        return float((binom.pmf(np.arange(n + 1), n, truths[:, None]) * inside).sum(1).min())

    def wilson(k: int) -> tuple[float, float]:
        z, p = NormalDist().inv_cdf(0.975), k / n
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)

    assert least(lambda k: (share_interval(k, n).low, share_interval(k, n).high)) >= 0.95
    assert least(wilson) < 0.87


def withheld(estimate: float, n: int, why: str) -> Interval:
    return Interval(estimate, math.nan, math.nan, n, "withheld", why)


def paired(gained: int, lost: int, n: int, level: float = 0.95) -> Interval:
    before = np.arange(n) < lost
    return paired_share_interval(before, (np.arange(n) >= lost) & (np.arange(n) < lost + gained), level)


@pytest.mark.parametrize("n", [2, 4, 8, 12, 30])
def test_a_paired_change_of_shares_is_covered_whatever_the_truth_and_seldom_found_where_there_is_none(n: int) -> None:
    counts = np.array([(gained, lost, n - gained - lost) for gained in range(n + 1) for lost in range(n + 1 - gained)])
    found = [paired(int(gained), int(lost), n) for gained, lost, _ in counts]
    low, high = np.array([[item.low, item.high] for item in found]).T
    grid = np.linspace(0.002, 0.996, 25)
    for p in grid:
        for q in grid[p + grid < 0.999]:
            likely = multinomial.pmf(counts, n, [p, q, 1 - p - q])
            assert likely[(low <= p - q) & (p - q <= high)].sum() >= 0.93
            assert p != q or max(likely[low > 0].sum(), likely[high < 0].sum()) <= 0.035


def test_a_paired_change_of_shares_is_that_of_its_formula() -> None:
    found = paired(7, 2, 40)
    p, q = 8 / 42, 3 / 42
    half = t.ppf(0.975, 39) * math.sqrt((p + q - (p - q) ** 2) / 42)
    assert (found.estimate, found.n) == (5 / 40, 40)
    assert (found.low, found.high) == (pytest.approx(p - q - half), pytest.approx(p - q + half))
    assert (paired(2, 7, 40).low, paired(2, 7, 40).high) == (-found.high, -found.low)
    assert paired(7, 2, 40, 0.5).low == pytest.approx(p - q - half * t.ppf(0.75, 39) / t.ppf(0.975, 39))
    assert (paired(2, 0, 2).high, paired(0, 2, 2).low) == (1.0, -1.0)
    assert found.method == "Bonett-Price" and paired(1, 0, 1) == withheld(1.0, 1, "one item")
    assert not paired(3, 0, 5).excludes_zero and paired(9, 0, 12).excludes_zero


DRAWN = {
    "normal": (lambda draw, n: draw.normal(1.0, 2.0, n), 1.0),
    "uniform": (lambda draw, n: draw.uniform(size=n), 0.5),
    "near one end": (lambda draw, n: draw.beta(0.3, 1.0, n), 0.3 / 1.3),
    "exponential": (lambda draw, n: draw.exponential(size=n), 1.0),
    "two skews": (lambda draw, n: draw.exponential(size=n) - draw.gamma(0.5, size=n), 0.5),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("n", [MIN_ITEMS, 25])
def test_a_mean_is_covered_from_the_fewest_items_on_that_get_an_interval(kind: str, n: int) -> None:
    sample, truth = DRAWN[kind]
    draw = np.random.default_rng(n)
    found = [mean_interval(sample(draw, n)) for _ in range(2000)]
    assert 0.93 <= np.mean([item.low <= truth <= item.high for item in found]) <= 0.99
    if kind == "normal":
        half = [mean_interval(sample(draw, n), level=0.5) for _ in range(500)]
        assert 0.45 <= np.mean([item.low <= truth <= item.high for item in half]) <= 0.65


def test_a_mean_over_items_of_unequal_weight_is_covered() -> None:
    draw, hits = np.random.default_rng(0), []
    while len(hits) < 2000:
        tokens = np.exp(0.5 * draw.normal(size=12))
        found = mean_interval(draw.exponential(size=12), tokens)
        hits += [] if found.withheld else [found.low <= 1.0 <= found.high]
    assert np.mean(hits) >= 0.93


def test_the_percentile_bootstrap_of_few_items_does_not_cover() -> None:
    """Control: what stood here before."""
    draw = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        x = draw.normal(size=5)
        low, high = np.quantile(x[draw.integers(0, 5, (400, 5))].mean(1), [0.025, 0.975])
        hits.append(low <= 0 <= high)
    assert np.mean(hits) < 0.89


def test_without_skew_it_is_students_interval_and_with_skew_the_union_with_halls() -> None:
    even = np.array([-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0]) + 3
    found, student = mean_interval(even), ttest_1samp(even, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(student.low), pytest.approx(student.high))
    strong, slight = np.array([0.1, 0.2, 0.2, 0.4, 0.5, 0.9, 1.6, 4.0, 7.5]), np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 1.3, 1.9, 2.4])
    assert skew(strong) > 1 > skew(slight) > 0.5
    for sign, x in ((1, strong), (-1, -strong), (1, slight), (-1, -slight)):
        n, gamma, s = len(x), skew(x), x.std(ddof=1)

        def hall(y: float, n: int = n, gamma: float = gamma) -> float:
            found = brentq(lambda u: u + gamma * u * u / 3 + gamma**2 * u**3 / 27 + gamma / (6 * n) - y, -50, 50)
            return float(found)  # pyright: ignore[reportArgumentType]

        y = t.ppf(0.975, n - 1) / math.sqrt(n)
        found = mean_interval(x)
        assert found.low == pytest.approx(x.mean() - s * max(y, hall(y)))
        assert found.high == pytest.approx(x.mean() + s * max(y, -hall(-y)))
        wider = (found.high - x.mean(), x.mean() - found.low)
        assert (wider[0] > wider[1]) == (sign > 0), "the long side is the side of the skew"


def test_weights_count_items_and_equal_weights_change_nothing() -> None:
    x = np.random.default_rng(3).exponential(size=20)
    plain, equal = mean_interval(x), mean_interval(x, np.full(20, 7.0))
    assert (equal.low, equal.high, equal.n) == (pytest.approx(plain.low), pytest.approx(plain.high), 20)
    w = np.arange(1.0, 21.0)
    effective, mean = w.sum() ** 2 / (w @ w), w @ x / w.sum()
    z = 19 / 20 * 20 * w * (x - mean) / w.sum() / (1 - w / w.sum())
    y = t.ppf(0.975, effective - 1) / math.sqrt(20)
    reach = math.sqrt(z @ z / 19)
    found = mean_interval(x, w)
    assert found.estimate == pytest.approx(mean) and found.low == pytest.approx(mean - reach * y)
    assert found.high > mean + reach * y, "skewed upwards"
    heavy = mean_interval(x, np.array([100.0] + [1.0] * 19))
    assert heavy.withheld == "1.41 items by weight, fewer than 8" and math.isnan(heavy.low) and heavy.n == 20


def test_what_cannot_be_covered_is_withheld_with_the_reason() -> None:
    few, same = mean_interval(np.arange(7.0)), mean_interval(np.full(32, 0.25))
    assert few == withheld(3.0, 7, "7 items by weight, fewer than 8") and str(few) == "3  n=7"
    assert same == withheld(0.25, 32, "all items are equal")
    assert few.bounds == same.bounds == (None, None) and not few.excludes_zero
    told = mean_interval(np.arange(8.0))
    assert not told.withheld and told.bounds == (told.low, told.high) and str(told) == "3.5 [1.45, 5.55]  n=8"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_of_items_that_are_no_numbers_no_interval_is_given_and_no_order(number: float) -> None:
    items = np.append(np.arange(40.0), number)
    found, why = mean_interval(items), "some items are no finite numbers"
    assert (found.bounds, found.withheld, found.n, found.sign) == ((None, None), why, 41, 0)
    assert np.array_equal([found.estimate], [number], equal_nan=True)
    for high, low in ((items, np.arange(41.0)), (np.arange(41.0), items)):
        told = auc_interval(high, low)
        assert math.isnan(told.estimate) and (told.withheld, told.n, told.bounds) == (why, 41, (None, None))
    tokens, texts = np.tile(np.arange(40.0), 10), np.arange(400) // 20
    assert not quantile_interval(tokens, texts).withheld
    # Sixteen texts and a hundred tokens are the fewest, as eight items are of a mean.
    few = np.concatenate([np.repeat(np.arange(16), 6), np.arange(4)])
    assert len(few) == 100 and not quantile_interval(np.arange(100.0), few).withheld
    why_few = "16 texts of 99 tokens in all, fewer than 16 or 100"
    assert quantile_interval(np.arange(99.0), few[:99]) == withheld(float(np.quantile(np.arange(99.0), 0.95)), 16, why_few)
    assert quantile_interval(np.ones(100), few) == withheld(1.0, 16, "all tokens are equal")
    assert quantile_interval(np.arange(150.0), np.arange(150) // 10).withheld.startswith("15 texts of 150 tokens in all")
    tokens[7] = number
    lost = quantile_interval(tokens, texts)
    assert (lost.withheld, lost.n, lost.bounds) == ("some tokens' values are no finite numbers", 20, (None, None))
    assert np.array_equal([lost.estimate], [np.quantile(tokens, 0.95)], equal_nan=True)


def test_bounds_move_through_exp_and_a_constant() -> None:
    found = Interval(0.5, -1.0, 2.0, 9, "t")
    beyond = Interval(710.0, 600.0, 5000.0, 9, "t").exp()
    assert (beyond.estimate, beyond.low, beyond.high) == (math.inf, math.exp(600.0), math.inf), "and no error"
    assert Interval(700.0, 700.0, 700.1, 9, "t").exp().bounds == (math.exp(700.0), math.inf)
    assert (found.words, Interval(0.5, math.nan, math.nan, 9, "t", "few").words) == ("0.5 [-1, 2]", "0.5")
    assert Interval(1e-9, math.nan, math.nan, 9, "t", "few").words == "1e-09"
    assert found.exp() == Interval(math.exp(0.5), math.exp(-1.0), math.exp(2.0), 9, "t")
    assert found.minus(1.5) == Interval(-1.0, -2.5, 0.5, 9, "t")
    assert [Interval(0.0, low, high, 9, "t").excludes_zero for low, high in ((0.1, 1), (-1, -0.1), (-1, 1), (0, 1), (-1, 0))] == [
        True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("n", "is_paired"), [(2, True), (2, False), (6, True), (6, False), (30, True), (30, False)])
def test_an_auc_is_covered_by_paired_rows_as_by_lone_ones(gap: float, n: int, is_paired: bool) -> None:
    draw, truth, hits = np.random.default_rng(n), NormalDist().cdf(gap / math.sqrt(2)), []
    for _ in range(2000):
        low, shared = draw.normal(size=(2, n))
        mine = draw.normal(size=n)
        if is_paired:  # what a row's question adds to both sides
            low, mine = 0.6 * low + 0.8 * shared, 0.6 * mine + 0.8 * shared
        found = auc_interval(mine + gap, low, paired=is_paired)
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) >= 0.93


def test_an_auc_is_wilsons_interval_over_the_items_of_delongs_variance() -> None:
    draw = np.random.default_rng(0)
    high, low = draw.normal(0.8, 1, 14), draw.normal(0, 1, 10)
    wins = high[:, None] > low
    a = wins.mean()
    for is_paired, mine, other in ((False, high, low), (True, high[:10], low)):
        wins = mine[:, None] > other
        a, mine_v, other_v = wins.mean(), wins.mean(1), wins.mean(0)
        variance = (mine_v + other_v).var(ddof=1) / 10 if is_paired else mine_v.var(ddof=1) / 14 + other_v.var(ddof=1) / 10
        n = min(max(10, a * (1 - a) / variance), 20)
        z = t.ppf(0.975, 9)
        roots = np.roots([1 + z * z / n, -(2 * a + z * z / n), a * a])
        found = auc_interval(mine, other, paired=is_paired)
        assert (found.low, found.high) == (pytest.approx(min(roots)), pytest.approx(max(roots)))
        assert found.estimate == a and found.n == (10 if is_paired else 24) and 10 < n < 20
    apart = auc_interval(np.arange(10.0) + 10, np.arange(10.0))
    assert apart.high == 1.0 and apart.low == pytest.approx(10 / (10 + t.ppf(0.975, 9) ** 2)), "ten items, not certainty"
    assert auc_interval(np.arange(10.0), np.arange(10.0) + 10).low == 0.0
    assert auc_interval(np.array([1.0, 2.0]), np.array([1.0, 2.0])).estimate == 0.5, "ties count half"
    assert auc_interval(np.array([1.0]), np.array([0.0, 2.0])) == withheld(0.5, 1, "one item")
    assert apart.method == "Wilson, DeLong" and apart == auc_interval(np.arange(10.0) + 10, np.arange(10.0), paired=False)
    mixed, low = np.array([1.0, 3.0, 4.0]), np.array([0.0, 2.0, 3.5])
    assert auc_interval(mixed, low) != auc_interval(mixed, low, paired=True)
    two = auc_interval(np.array([1.0, 3.0]), np.array([0.0, 2.0]))
    assert not two.withheld and 0.0 <= two.low < 0.75 < two.high <= 1.0
    for n in range(2, 200):
        ends = auc_interval(np.arange(n) + 200.0, np.arange(n) * 1.0), auc_interval(np.arange(n) * 1.0, np.arange(n) + 200.0)
        assert ends[0].high <= 1.0 and ends[1].low >= 0.0, "not by rounding either"


def test_an_auc_rests_on_at_most_twice_the_smaller_side() -> None:
    """With rows whose sides move together the variance of the difference says more items than there are."""
    draw = np.random.default_rng(1)
    shared = draw.normal(size=12)
    found = auc_interval(shared + 0.3 + 0.01 * draw.normal(size=12), shared, paired=True)
    z, a, n = t.ppf(0.975, 11), found.estimate, 24
    roots = np.roots([1 + z * z / n, -(2 * a + z * z / n), a * a])
    assert (found.low, found.high) == (pytest.approx(min(roots)), pytest.approx(max(roots)))


def test_pairing_finds_a_small_shift_that_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0, 5, 200)
    edited = base + 0.3 + rng.normal(0, 0.5, 200)
    metric = mean_metric("x", "X", np.stack([base, edited]), "nats", "higher")
    assert metric.changes[0] is None
    change = metric.changes[1]
    assert change is not None and change.excludes_zero
    assert metric.values[0].high > metric.values[1].low, "the plain intervals overlap"
    shuffled = mean_metric("x", "X", np.stack([base, rng.permutation(edited)]), "nats", "higher").changes[1]
    assert shuffled is not None and not shuffled.excludes_zero, "without the pairing the shift is lost"


def test_weights_make_a_ratio_of_sums_and_exp_maps_bounds() -> None:
    values, tokens = np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([9.0, 1.0])
    metric = mean_metric("nll", "NLL", values, "nats/token", "lower", weights=tokens)
    assert metric.values[1].estimate == pytest.approx((9 * 1 + 1 * 3) / 10)
    assert mean_interval(values[1]).estimate == 2.0
    ratio = mean_metric("ppl", "PPL", values, "", "lower", weights=tokens, link="exp")
    assert ratio.values[0].estimate == 1.0 and ratio.values[1].estimate == pytest.approx(math.exp(1.2))


def test_one_item_has_no_interval_and_says_so() -> None:
    found = mean_interval(np.array([0.5]))
    assert math.isnan(found.low) and "n=1" in str(found) and "[" not in str(found)
    assert not found.excludes_zero and "1 items" in found.withheld


def test_the_change_of_a_ratio_is_a_difference_and_can_be_nothing() -> None:
    nats = np.random.default_rng(0).normal(0, 0.1, (3, 40))
    metric = mean_metric("ppl", "PPL", nats - nats[0] + [[0.0], [0.0], [0.5]], "", "lower", link="exp")
    ratio, change = metric.values[2], metric.changes[2]
    assert change is not None and metric.values[0].estimate == 1.0
    assert (change.estimate, change.low, change.high) == (ratio.estimate - 1, ratio.low - 1, ratio.high - 1) and change.excludes_zero
    assert metric.changes[1] is not None and not metric.changes[1].excludes_zero


def test_shares_are_counted_exactly_until_seeds_are_pooled() -> None:
    hits = np.tile(np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool), (1, 3))
    metric = share_metric("mc1", "MC1", hits, "higher")
    assert [value.method for value in metric.values] == ["Clopper-Pearson"] * 4
    assert metric.values[0] == share_interval(3, 12) and metric.changes[0] is None
    assert metric.changes[1] == paired(9, 0, 12) and metric.changes[3] == paired(6, 3, 12)
    pooled = metric.pooled([[0], [1], [2, 3]])
    assert [value.method for value in pooled.values] == ["Clopper-Pearson", "Clopper-Pearson", "t"]
    assert pooled.values[0] == metric.values[0] and pooled.changes[1] == metric.changes[1]
    assert pooled.changes[2] == mean_interval(pooled.per_item[2] - hits[0]) and pooled.is_share
    assert pooled.per_item[2].tolist() == [0.5, 1.0, 0.5, 0.0] * 3


def test_the_base_model_is_lane_zero_once() -> None:
    assert with_base([]) == (Lane(),)
    assert with_base([()]) == (Lane(),)
