"""What a search promises: planted objectives are climbed, controls are not, and a record is enough to continue."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.objectives import Objective, found, logistic, quadratic
from workbench.errors import BadKnob
from workbench.progress import Cancelled, Progress
from workbench.search import Found, SearchConfig, Trials, ask, maximise, told
from workbench.search.embedding import EmbeddingProposer, sketch

ALL = ("random", "es", "turbo", "bo", "embedding", "official_bo")


def interval(differences: list[float]) -> tuple[float, float]:
    """Return the 95 % t interval of a mean difference over 10 seeds (t = 2.262 with 9 degrees of freedom)."""
    values = np.array(differences)
    half = 2.262 * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def test_correct_search_beats_random_at_equal_budget_and_a_flipped_sign_is_worse() -> None:
    against_random, against_flipped = [], []
    for seed in range(10):
        objective = quadratic(5, seed)
        correct = found("bo", objective, seed=seed, budget=14).best.value
        against_random.append(correct - found("random", objective, seed=seed, budget=14).best.value)
        against_flipped.append(correct - found("bo", objective, seed=seed, budget=14, maximize=False).best.value)
    assert interval(against_random)[0] > 0
    assert interval(against_flipped)[0] > 0


def test_trust_region_beats_random_on_a_planted_logistic_of_500_coordinates_and_upside_down_does_not() -> None:
    values: dict[str, list[float]] = {"turbo": [], "random": []}
    for seed in range(3):
        objective = logistic(500, seed)
        for name in ("turbo", "random"):
            values[name].append(found(name, objective, dim=500, seed=seed, budget=26).best.value)
    flipped = found("turbo", logistic(500, 0), dim=500, budget=26, maximize=False).best.value
    assert all(turbo > drawn for turbo, drawn in zip(values["turbo"], values["random"]))
    assert flipped < values["turbo"][0]


def test_embedding_finds_what_lies_in_its_span() -> None:
    config = SearchConfig(dim=64, optimizer="embedding", budget=16, n_init=6, embedding_dim=4, seed=3)
    embedded = sketch(config)
    objective = quadratic(4, 1)
    lower = EmbeddingProposer(config).lower
    lifted_objective: Objective = lambda u: objective(lower(u))  # noqa: E731
    searched = maximise(lifted_objective, config).best.value
    control = maximise(lifted_objective, replace(config, optimizer="random")).best.value
    assert searched > control
    hidden = torch.rand(50, 4, dtype=torch.float64)
    lifted = embedded.lift(hidden)
    assert bool(((lifted >= 0) & (lifted <= 1)).all())
    torch.testing.assert_close(EmbeddingProposer(config).lower(lifted), hidden, atol=1e-12, rtol=0)  # float64 rounding
    assert torch.equal(embedded.lift(torch.full((1, 4), 0.5, dtype=torch.float64)), torch.full((1, 64), 0.5).double())


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize("lanes", [1, 3])
def test_points_lie_in_the_box_calls_equal_the_budget_and_the_best_never_falls(optimizer: str, lanes: int) -> None:
    calls: list[int] = []
    objective = logistic(6, 0)

    def counted(u: torch.Tensor) -> torch.Tensor:
        calls.append(len(u))
        return objective(u)

    result = found(optimizer, counted, dim=6, budget=11, lanes=lanes)
    assert sum(calls) == 11 == len(result.trials)
    assert bool(((result.trials.points >= 0) & (result.trials.points <= 1)).all())
    best = [row.best for row in result.trials]
    assert best == sorted(best)
    assert best[-1] == result.best.value >= result.trials.rows[0].value
    assert torch.equal(result.trials.points[0], torch.full((6,), 0.5, dtype=torch.float64))
    assert result.trials.rows[0].stage == "identity"
    assert result.stopped == "budget"


@pytest.mark.parametrize("optimizer", ALL)
def test_the_same_seed_gives_the_same_trajectory_and_another_seed_another(optimizer: str) -> None:
    objective = logistic(6, 0)
    first, again, other = (found(optimizer, objective, dim=6, budget=10, seed=seed).trials for seed in (4, 4, 5))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize(("lanes", "kept"), [(1, 8), (3, 8)])
def test_a_resumed_search_equals_an_uninterrupted_one(optimizer: str, lanes: int, kept: int) -> None:
    objective = logistic(6, 0)
    config = SearchConfig(dim=6, optimizer=optimizer, budget=11, n_init=6, lanes=lanes)
    whole = maximise(objective, config).trials
    recorded = Trials.from_tensors(Trials(whole.rows[:kept]).tensors())
    resumed = maximise(objective, config, resume=recorded).trials
    assert torch.equal(whole.points, resumed.points)
    assert torch.equal(whole.tensors()["scalars"].nan_to_num(-1.0), resumed.tensors()["scalars"].nan_to_num(-1.0))


def test_trials_of_another_search_are_not_continued() -> None:
    objective = logistic(6, 0)
    config = SearchConfig(dim=6, optimizer="random", budget=8, include_identity=False)
    trials = maximise(objective, config).trials
    with pytest.raises(BadKnob, match="seed 1"):
        maximise(objective, replace(config, seed=1), resume=trials)


def test_cancel_returns_the_best_so_far() -> None:
    progress = Progress()
    objective = logistic(6, 0)

    def cancelling(u: torch.Tensor) -> torch.Tensor:
        if len(seen) >= 7:
            progress.cancel()
        seen.append(1)
        return objective(u)

    seen: list[int] = []
    with pytest.raises(Cancelled) as caught:
        maximise(cancelling, SearchConfig(dim=6, optimizer="es", budget=30), progress=progress)
    kept = caught.value.best
    assert isinstance(kept, Found)
    assert kept.stopped == "cancelled"
    assert len(kept.trials) == 8
    assert kept.best.value == float(kept.trials.values.max())


def test_every_batch_is_recorded_and_told() -> None:
    told_shares: list[float] = []
    recorded: list[int] = []
    progress = Progress(lambda report: told_shares.append(report.share))
    config = SearchConfig(dim=3, optimizer="random", budget=8, n_init=4, lanes=2)
    maximise(logistic(3, 0), config, progress=progress, record=lambda trials: recorded.append(len(trials)))
    assert recorded == [2, 4, 6, 8]
    assert told_shares == sorted(told_shares)
    assert len(told_shares) == 4


def test_a_target_and_patience_stop_early() -> None:
    assert found("random", logistic(3, 0), dim=3, target=-1.0).stopped == "target"
    flat = maximise(lambda u: torch.zeros(len(u)).double(), SearchConfig(dim=3, budget=50, n_init=4, patience=5))
    assert flat.stopped == "patience"
    assert len(flat.trials) == 6


def test_ask_and_tell_walk_the_same_way_as_maximise() -> None:
    objective = logistic(6, 0)
    config = SearchConfig(dim=6, optimizer="es", budget=9, n_init=4, lanes=2)
    trials = Trials()
    while len(trials) < config.budget:
        proposal = ask(config, trials)
        trials = told(config, trials, proposal, objective(proposal.points))
    assert torch.equal(trials.points, maximise(objective, config).trials.points)


def test_the_same_design_is_drawn_whatever_the_lanes() -> None:
    one, four = (found("random", logistic(6, 0), dim=6, budget=6, lanes=lanes).trials.points for lanes in (1, 4))
    assert torch.equal(one, four)


def test_beyond_sobols_limit_the_design_is_uniform() -> None:
    result = found("random", lambda u: u[:, 0], dim=21_300, budget=3)
    assert result.trials.points.shape == (3, 21_300)
