"""What the parts of a Bayesian search promise: region, surrogate, acquisition and kernel, against other ways to compute them."""

from __future__ import annotations

import math
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

from tests.objectives import found, logistic, quadratic
from workbench.errors import BadKnob, NotEnoughData, NotFinite, ShapeMismatch, UnknownName
from workbench.search import SearchConfig, Trials, health, maximise
from workbench.search.acquisition import ExpectedImprovement, log_improvement
from workbench.search.bayes import OFFICIAL_DEPTH, bnn_process, fit_of
from workbench.search.surrogate import NOISE_PRIOR, fitted, lengthscale_prior, log_posterior
from workbench.search.trust_region import region_side


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
