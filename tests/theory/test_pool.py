"""A search over a pool with two objectives: fronts by their definition, proposals that follow from what was seen, better than random."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from botorch.acquisition.multi_objective import logei

from workbench.search.fronts import hypervolume, on_front
from workbench.search.pool import Pool


def test_a_front_is_what_no_point_beats_and_covers_the_area_under_its_steps() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [2.0, 1.0], [2.0, 2.0], [np.nan, 9.0], [-1.0, 5.0]])
    assert on_front(points).tolist() == [True, True, True, False, True, False, True]
    assert hypervolume(points, (0.0, 0.0)) == pytest.approx(3 + 2 + 1)
    assert hypervolume(points[[3]], (0.0, 0.0)) == 2 and hypervolume(points[[6]], (0.0, 0.0)) == 0


def test_the_area_is_that_of_counted_cells() -> None:
    points = np.random.default_rng(0).integers(-3, 9, (40, 2)).astype(float)
    cells = sum(bool(((points > (x, y)).all(1)).any()) for x, y in itertools.product(range(9), range(9)))
    assert hypervolume(points, (0.0, 0.0)) == cells


ONE = np.ones(200)


def table(n: int = 160, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Designs of four kinds whose front is known: the last column trades one objective for the other, and kind 2 does so best."""
    drawn = np.random.default_rng(seed)
    kinds, x = np.arange(n) % 4, drawn.random((n, 4))
    good = np.array([0.2, 0.3, 1.0, 0.1])[kinds] * (1 - 2 * (x[:, 0] - 0.7) ** 2)
    values = np.stack([good * x[:, 3], good * (1 - x[:, 3] ** 2)], 1)
    return np.concatenate([np.eye(4)[kinds], x], 1), kinds, values


def searched(pool: Pool, values: np.ndarray, n: int, seen: list[int] | None = None) -> list[int]:
    seen = list(seen or ())
    while len(seen) < n:
        seen += pool.ask(seen, values[seen])[: n - len(seen)]
    return seen


def test_a_search_covers_more_than_random_draws_at_equal_numbers_and_upside_down_it_does_not() -> None:
    features, kinds, values = table()
    ahead: list[float] = []
    upside: list[float] = []
    for seed in range(2):
        pool = Pool(features, kinds, ONE[: len(kinds)], seed=seed)
        covered = hypervolume(values[pool.draws()[:32]], (0.0, 0.0))
        ahead.append(hypervolume(values[searched(pool, values, 32)], (0.0, 0.0)) - covered)
        upside.append(
            hypervolume(values[searched(Pool(features, kinds, ONE[: len(kinds)], (-2.0, -2.0), seed=seed), -values, 32)], (0.0, 0.0))
            - covered
        )
    assert min(ahead) > 0 > np.mean(upside)


def test_no_kernel_is_compiled_for_a_search() -> None:
    """Under these two names BoTorch remembers that it tried, and what it got."""
    assert (logei._load_attempted, logei._C) == (True, None)


def test_a_search_that_was_stopped_anywhere_goes_on_as_if_it_had_not_been() -> None:
    features, kinds, values = table(48)
    pool = Pool(features, kinds, ONE[: len(kinds)], seed=5)
    whole = searched(pool, values, 20)
    assert len(set(whole)) == 20
    for stop in (5, 13, 18):
        assert searched(pool, values, 20, whole[:stop]) == whole
    assert whole[:12] != Pool(features, kinds, ONE[: len(kinds)], seed=6).draws()[:12]


def test_draws_take_kinds_in_turn_and_every_design_once() -> None:
    features, kinds, _ = table(40)
    order = Pool(features, kinds, ONE[: len(kinds)]).draws()
    assert sorted(order) == list(range(40))
    assert all(sorted(kinds[order[start : start + 4]]) == [0, 1, 2, 3] for start in range(0, 40, 4))


@pytest.mark.parametrize("unknown", [slice(0, 11), slice(0, 12), slice(3, 5)])
def test_what_could_not_be_measured_is_not_asked_again_and_the_pool_ends(unknown: Any) -> None:
    features, kinds, values = table(18)
    values[Pool(features, kinds, ONE[: len(kinds)]).draws()[unknown]] = np.nan
    pool = Pool(features, kinds, ONE[: len(kinds)])
    assert sorted(searched(pool, values, 18)) == list(range(18))
    assert pool.ask(list(range(18)), values) == []
