"""What a search promises: planted objectives are climbed, controls are not, and a record is enough to continue."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.models.kernels import InfiniteWidthBNNKernel
from botorch.models.transforms.outcome import Standardize
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import MaternKernel, RBFKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior

from workbench.errors import BadKnob, NotEnoughData, NotFinite, ShapeMismatch, UnknownName
from workbench.progress import Cancelled, Progress
from workbench.search import Found, SearchConfig, Trials, asked, health, maximise, told
from workbench.search.acquisition import ExpectedImprovement, log_improvement
from workbench.search.bayes import OFFICIAL_DEPTH, bnn_process, fit_of
from workbench.search.embedding import EmbeddingProposer, sketch
from workbench.search.surrogate import NOISE_PRIOR, fitted, lengthscale_prior, log_posterior
from workbench.search.trust_region import region_side

Objective = Callable[[torch.Tensor], torch.Tensor]
ALL = ("random", "es", "turbo", "bo", "embedding", "official_bo")


def quadratic(dim: int, seed: int) -> Objective:
    optimum = 0.2 + 0.6 * torch.rand(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda u: -(u - optimum).square().sum(-1)


def logistic(dim: int, seed: int) -> Objective:
    weight = torch.randn(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda u: torch.sigmoid(4 * (u - 0.5) @ weight / weight.norm() - 0.2)


def found(optimizer: str, objective: Objective, dim: int = 5, seed: int = 0, budget: int = 24, **more: object) -> Found:
    config = SearchConfig(dim=dim, optimizer=optimizer, budget=budget, n_init=6, seed=seed, **more)  # type: ignore[arg-type]
    return maximise(objective, config)


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
        proposal = asked(config, trials)
        trials = told(config, trials, proposal, objective(proposal.points))
    assert torch.equal(trials.points, maximise(objective, config).trials.points)


def test_the_same_design_is_drawn_whatever_the_lanes() -> None:
    one, four = (found("random", logistic(6, 0), dim=6, budget=6, lanes=lanes).trials.points for lanes in (1, 4))
    assert torch.equal(one, four)


def test_beyond_sobols_limit_the_design_is_uniform() -> None:
    result = found("random", lambda u: u[:, 0], dim=21_300, budget=3)
    assert result.trials.points.shape == (3, 21_300)


def test_the_region_halves_on_failures_doubles_on_successes_and_starts_again() -> None:
    config = SearchConfig(dim=4, optimizer="turbo", budget=60, n_init=4, failure_tol=2, region_min=0.3, region_start=0.8)
    falling = iter(range(100))
    trials = maximise(lambda u: torch.tensor([-float(next(falling))]).double(), replace(config, budget=8)).trials
    assert [row.region for row in trials.rows[4:]] == [0.8, 0.8, 0.4, 0.4]
    trials = maximise(lambda u: torch.tensor([-float(next(falling))]).double(), replace(config, budget=9)).trials
    assert trials.rows[8].region == 0.8  # .2 lies below the smallest side
    rising = iter(range(1, 100))
    trials = maximise(lambda u: torch.tensor([float(next(rising)) ** 2]).double(), replace(config, budget=10)).trials
    assert region_side(config, trials) == 1.6


def test_surrogate_equals_botorchs_process_and_its_map_is_no_worse() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(30, 7, generator=generator, dtype=torch.float64)
    values = torch.sin(3 * points[:, 0]) + points[:, 1] + 0.05 * torch.randn(30, generator=generator, dtype=torch.float64)
    for name, kernel in (("rbf", RBFKernel), ("matern", MaternKernel)):
        ours = fitted(points, values, name)
        prior = LogNormalPrior(*lengthscale_prior(7))
        module = kernel(lengthscale_prior=prior, lengthscale_constraint=GreaterThan(2.5e-2, transform=None))
        process = SingleTaskGP(points, values[:, None], covar_module=module, outcome_transform=Standardize(1))
        process.covar_module.lengthscale = ours.lengthscale
        process.likelihood.noise = ours.noise
        process.mean_module.initialize(constant=torch.tensor(ours.mean, dtype=torch.float64))
        process.eval()
        at = torch.rand(9, 7, generator=generator, dtype=torch.float64)
        theirs = process.posterior(at)
        mean, variance = ours.posterior(at)
        # 1e-6: both factor the same 30 x 30 matrix, BoTorch through its own jittered solvers.
        torch.testing.assert_close(mean, theirs.mean[:, 0].detach(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(variance, theirs.variance[:, 0].detach(), atol=1e-6, rtol=1e-5)
        log_ei = LogExpectedImprovement(process, best_f=values.max())(at[:, None]).detach()
        scored, _ = ExpectedImprovement(ours, float(values.max())).with_gradient(at)
        torch.testing.assert_close(scored, log_ei, atol=1e-4, rtol=1e-4)
        process.train()
        mll = ExactMarginalLogLikelihood(process.likelihood, process)
        theirs_value = mll(process(points), process.train_targets).item() * len(points)
        squared = torch.cdist(points, points).square().numpy()
        ours_value, _ = log_posterior(squared, ours.standardised.numpy(), 7, name, ours.lengthscale, ours.noise)
        assert abs(ours_value - theirs_value) < 1e-4
        for worse in ((1.1, 1.0), (0.9, 1.0), (1.0, 1.3), (1.0, 0.7)):
            at_worse = (ours.lengthscale * worse[0], ours.noise * worse[1])
            assert log_posterior(squared, ours.standardised.numpy(), 7, name, *at_worse)[0] < ours_value


def test_gradients_by_hand_equal_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(12, 4, generator=generator, dtype=torch.float64)
    values = points.sum(-1).sin()
    for kernel in ("rbf", "matern"):
        for maximize in (True, False):
            score = ExpectedImprovement(fitted(points, values, kernel), float(values.max()), maximize)
            x = torch.rand(3, 4, generator=generator, dtype=torch.float64)
            gradient = score.with_gradient(x)[1]
            step = 1e-6 * torch.eye(4, dtype=torch.float64)
            for k in range(4):
                slope = (score(x + step[k]) - score(x - step[k])) / 2e-6
                # central differences of step 1e-6 keep about 5 digits of a score whose curvature is of order 100
                torch.testing.assert_close(gradient[:, k], slope, atol=1e-3, rtol=1e-3)
    squared = torch.cdist(points, points).square().numpy()
    y = fitted(points, values).standardised.numpy()
    _, gradient = log_posterior(squared, y, 4, "rbf", 0.7, 0.05)
    for k, (left, right) in enumerate((((0.7 * math.exp(1e-5), 0.05), (0.7 * math.exp(-1e-5), 0.05)),
                                       ((0.7, 0.05 * math.exp(1e-5)), (0.7, 0.05 * math.exp(-1e-5))))):  # fmt: skip
        slope = (log_posterior(squared, y, 4, "rbf", *left)[0] - log_posterior(squared, y, 4, "rbf", *right)[0]) / 2e-5
        assert abs(slope - gradient[k]) < 1e-5 * max(1.0, abs(slope))
    assert NOISE_PRIOR == (-4.0, 1.0)


def test_log_improvement_is_exact_where_improvement_underflows() -> None:
    u = torch.tensor([2.0, 0.0, -0.999, -1.001, -5.0, -99.9, -100.1, -1e5], dtype=torch.float64)
    got = log_improvement(u)
    direct = torch.log(torch.exp(-0.5 * u[:5] ** 2) / math.sqrt(2 * math.pi) + u[:5] * torch.special.ndtr(u[:5]))
    # 1e-8: at u = -5 the direct formula itself loses eight digits to cancellation
    torch.testing.assert_close(got[:5], direct, atol=1e-8, rtol=1e-8)
    assert bool(got.isfinite().all())
    asymptotic = -0.5 * u[5:] ** 2 - 0.5 * math.log(2 * math.pi) - 2 * torch.log(-u[5:]) + torch.log1p(-3 / u[5:] ** 2)
    torch.testing.assert_close(got[5:], asymptotic, atol=1e-6, rtol=0)  # next term of the series is 15/u^4 = 1.5e-7


def test_noise_free_data_is_foretold_and_pure_noise_is_not() -> None:
    """On pure noise the noise prior makes a short lengthscale likelier than much noise: only left-out trials tell."""
    points = torch.rand(40, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    explained = []
    for values in (quadratic(5, 0)(points), noise):
        surrogate = fitted(points, values)
        assert surrogate.noise < 0.1
        residual = values - surrogate.leave_one_out()
        explained.append(1 - float(residual.var() / values.var()))
    assert explained[0] > 0.9
    assert explained[1] < 0.1


def test_leave_one_out_equals_refitting_without_the_trial() -> None:
    points = torch.rand(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = points.sum(-1)
    whole = fitted(points, values)
    rest = torch.arange(8) != 2
    gram = torch.exp(-0.5 * torch.cdist(points, points).square() / whole.lengthscale**2)
    inner = gram[rest][:, rest] + whole.noise * torch.eye(7, dtype=torch.float64)
    forecast = whole.mean + gram[2][rest] @ torch.linalg.solve(inner, whole.standardised[rest] - whole.mean)
    expected = whole.shift + whole.scale * forecast
    torch.testing.assert_close(whole.leave_one_out()[2], expected, atol=1e-8, rtol=0)  # two float64 solves


def network_kernel(x: np.ndarray, depth: int, weight_var: float, bias_var: float) -> np.ndarray:
    """Return the infinite-width ReLU kernel by the recursion as written."""
    gram = bias_var + weight_var * x @ x.T / x.shape[1]
    for _ in range(depth):
        size = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        angle = np.arccos(np.clip(gram / size, -1, 1))
        gram = bias_var + weight_var / (2 * np.pi) * size * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
    return gram


@pytest.mark.parametrize("depth", [3, 12])
def test_network_kernel_equals_the_plain_recursion(depth: int) -> None:
    x = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = InfiniteWidthBNNKernel(depth=depth).double()
    kernel.weight_var, kernel.bias_var = 10.0, 5.0
    theirs = kernel(x, x).to_dense().detach().numpy()
    ours = network_kernel(x.numpy(), depth, 10.0, 5.0)
    # BoTorch clamps the cosine at 1 - 1e-7: an angle of 4.5e-4 where ours is 0
    np.testing.assert_allclose(theirs, ours, rtol=2e-6 * depth)
    assert not np.allclose(theirs, network_kernel(x.numpy(), depth, 5.0, 10.0), rtol=1e-3)


def test_the_official_preset_collapses_where_depth_three_does_not() -> None:
    trials = found("random", quadratic(5, 0), budget=40).trials
    collapsed = fit_of(bnn_process(trials.points, -trials.values, OFFICIAL_DEPTH, official=True), trials.points)
    sound = fit_of(bnn_process(trials.points, trials.values, 3), trials.points)
    assert collapsed.noise_share > 0.9
    assert sound.noise_share < 0.1
    proposed = maximise(quadratic(5, 0), SearchConfig(dim=5, budget=14).official())
    state = health(proposed.trials)
    assert state.uninformative == state.calls == 10
    assert 0.2 < state.spread < 0.38  # uniform points: .289; the mean over 5 coordinates of 10 draws scatters by .03


def test_health_tells_a_climb_from_a_drawing() -> None:
    climbed, drawn = (health(found(name, logistic(40, 0), dim=40, budget=24).trials) for name in ("turbo", "random"))
    assert climbed.trend > 0.3 > abs(drawn.trend) - 0.2
    assert climbed.rank_correlation > 0.3
    assert math.isnan(drawn.rank_correlation)
    assert climbed.noise < 0.1
    with pytest.raises(NotEnoughData):
        health(Trials())


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UnknownName, match="turbo"):
        SearchConfig(dim=3, optimizer="tubro")
    with pytest.raises(BadKnob, match="budget"):
        SearchConfig(dim=3, budget=0)
    with pytest.raises(NotFinite):
        found("random", lambda u: u[:, 0] * math.nan)
    with pytest.raises(ShapeMismatch):
        found("random", lambda u: u)
