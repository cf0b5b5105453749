"""Where an edit acts: the map's numbers are the evaluation's, and the place that breaks least of those that gain as much is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import taught_rows, words
from tests.made_edits import shift
from workbench.edits.lane import Lane
from workbench.evaluate.evaluation import evaluation
from workbench.evaluate.metrics import mean_metric
from workbench.evaluate.places import _best, place_map

CASES = [
    ((0, 1, 1, 1), (0, 3, 2, 1), 2),
    ((0, 1, 1, 0), (0, 3, 2, 1), 1),
    ((0, 0, 0, 0), (0, 1, 1, 1), None),
    ((0, -1, -1, 0), (0, 1, 2, 1), None),
    ((0, 1, 2, 0), (0, 1, 2, 0), 1),
    ((0, 2, 1, 1), (0, 3, 2, 1), 0),
]


@pytest.mark.parametrize(("gain", "damage", "best"), CASES)
def test_of_places_that_gain_as_much_the_one_that_breaks_least_is_best(gain: Any, damage: Any, best: int | None) -> None:
    noise = np.random.default_rng(0).normal(size=40) * 0.01
    score = mean_metric("margin", "Margin", np.array(gain)[:, None] + noise * np.arange(4)[:, None], "nats", "higher")
    cost = mean_metric("kl_nats", "KL", np.array(damage)[:, None] + noise, "nats", "lower")
    assert _best(score, cost, [1, 2, 3]) == best


def test_a_map_holds_each_places_numbers_and_its_own_random_edit(tiny_gpt2: Any) -> None:
    rows, neutral = taught_rows(60), [words(*range(i, i + 12)) for i in range(10, 20)]
    lanes = [Lane((shift(tiny_gpt2, seed=seed),)) for seed in (1, 2)]
    found = evaluation(tiny_gpt2, rows, lanes, neutral=neutral, own=[words(5, 6)], n_placebos=1, n_generations=0)
    told, score = place_map(found, ("", "prompt")), found.benefit.metrics[0]
    assert found.side_effects is not None
    own_kl, kl = (found.side_effects.metric(name) for name in ("own_kl_nats", "kl_nats"))
    assert [one.damage for one in told.places] == [own_kl.values[at] for at in (1, 2)] != [kl.values[at] for at in (1, 2)]
    assert [one.gain for one in told.places] == [score.values[at] for at in (1, 2)]
    turned = {of: at for at, of in enumerate(found.placebo_of) if of is not None}
    assert [one.random for one in told.places] == [score.values[turned[at]] for at in (1, 2)]
    assert [one.label for one in told.places] == ["As it was fitted", "On the prompt"] and told.n == score.n
    bare = evaluation(tiny_gpt2, rows, lanes, neutral=neutral, own=[words(5, 6)], n_placebos=0, n_generations=0)
    assert [one.random for one in place_map(bare, ("", "prompt")).places] == [None, None]
    with pytest.raises(ValueError, match="2 lanes is no map of 3"):
        place_map(found, ("", "prompt", "all"))
