"""The mean of what lies beyond a percentile: its value, its interval, and what a percentile alone does not see."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.numerics.intervals import quantile_interval, shortfall_interval


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
    assert shortfall_interval(values[:300], np.arange(300) // 20).withheld.startswith("15 texts of 300 tokens in all")


def test_what_moves_one_token_in_a_hundred_far_is_seen_and_a_percentile_does_not_see_it() -> None:
    values = np.zeros(2000)
    values[::100] = 4.0
    texts = np.arange(2000) // 50
    assert quantile_interval(values, texts).estimate == 0.0
    found = shortfall_interval(values, texts)
    assert found.estimate == pytest.approx(0.8) and found.low > 0
