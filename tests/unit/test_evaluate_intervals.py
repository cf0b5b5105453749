"""Intervals and metrics: coverage, pairing, shares, ratios, pooling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.evaluate.metrics import mean_metric, share_metric, with_base
from workbench.numerics.intervals import mean_interval, wilson


def test_wilson_equals_the_published_example_and_stays_inside_zero_and_one() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 10).low == 0 and wilson(0, 10).high > 0.2
    assert wilson(10, 10).high == 1 and wilson(10, 10).low < 0.8


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = sum(found.low <= 1.0 <= found.high for found in (mean_interval(rng.normal(1.0, 2.0, 80), draws=400) for _ in range(300)))
    # 300 trials at 95 %: three standard deviations are 0.038; a percentile bootstrap of 80 items is slightly short.
    assert 0.90 <= hits / 300 <= 0.985
    narrow = mean_interval(rng.normal(1.0, 2.0, 80), level=0.5, draws=400)
    assert narrow.high - narrow.low < 0.45


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
    assert not found.excludes_zero


def test_shares_are_counted_by_wilson_until_seeds_are_pooled() -> None:
    hits = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    metric = share_metric("mc1", "MC1", hits, "higher")
    assert [value.method for value in metric.values] == ["Wilson"] * 4
    pooled = metric.pooled([[0], [1], [2, 3]])
    assert [value.method for value in pooled.values] == ["Wilson", "Wilson", "bootstrap"]
    assert pooled.values[0] == metric.values[0] and pooled.changes[1] == metric.changes[1]
    assert pooled.per_item[2].tolist() == [0.5, 1.0, 0.5, 0.0]


def test_the_base_model_is_lane_zero_once() -> None:
    assert with_base([]) == ((),)
    assert with_base([()]) == ((),)
