"""The mean of what lies beyond a percentile: its value, its interval, and what a percentile alone does not see."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.numerics.intervals import mean_interval, quantile_interval, shortfall_interval


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_a_shortfall_is_covered_whether_texts_differ_or_not(spread: float) -> None:
    draw = np.random.default_rng(0)

    def drawn(n_texts: int, n_tokens: int) -> np.ndarray:
        return draw.exponential(size=(n_texts, n_tokens)) * np.exp(spread * draw.normal(size=(n_texts, 1)))

    many = drawn(20_000, 100).ravel()
    truth = many[many > np.quantile(many, 0.95)].mean()
    texts = np.arange(24 * 40) // 40
    found = [shortfall_interval(drawn(24, 40).ravel(), texts) for _ in range(800)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.92


def test_it_is_the_mean_of_the_most_moved_twentieth_and_few_texts_have_no_interval() -> None:
    values = np.arange(400.0)
    found = shortfall_interval(values, np.arange(400) // 20)
    assert found.estimate == pytest.approx(values[-20:].mean(), rel=1e-3) and found.n == 20
    few, why = shortfall_interval(values[:300], np.arange(300) // 20), "15 texts of 300 tokens in all, fewer than 16 or 100"
    assert (few.withheld, few.n, few.bounds) == (why, 15, (None, None))
    assert few.estimate == pytest.approx(values[285:300].mean(), rel=1e-3)
    sixteen = np.minimum(np.arange(100) // 6, 15)
    assert not shortfall_interval(values[:100], sixteen).withheld, "sixteen texts of a hundred tokens are enough"
    assert shortfall_interval(values[:99], sixteen[:99]).withheld.startswith("16 texts of 99 tokens")


def test_a_long_text_counts_for_as_many_tokens_as_it_has() -> None:
    draw = np.random.default_rng(1)
    texts = np.repeat(np.arange(20), draw.integers(5, 40, 20))
    values = draw.exponential(size=len(texts)) * (1 + texts / 10)
    at = np.quantile(values, 0.8)
    terms = at + np.maximum(values - at, 0) / 0.2
    means, tokens = np.array([terms[texts == one].mean() for one in range(20)]), np.bincount(texts) * 1.0
    for level in (0.95, 0.5):
        found, expected = shortfall_interval(values, texts, 0.8, level=level), mean_interval(means, tokens, level=level)
        assert found.estimate == pytest.approx(terms.mean()) and found.n == 20
        assert found.bounds == pytest.approx(expected.bounds)
    assert found.bounds != pytest.approx(mean_interval(means, level=0.5).bounds), "texts alike would be another interval"


def test_what_moves_one_token_in_a_hundred_far_is_seen_and_a_percentile_does_not_see_it() -> None:
    values = np.zeros(2000)
    values[::100] = 4.0
    texts = np.arange(2000) // 50
    assert quantile_interval(values, texts).estimate == 0.0
    found = shortfall_interval(values, texts)
    assert found.estimate == pytest.approx(0.8) and found.low > 0
