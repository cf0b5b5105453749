"""Bayesian optimisation over the whole box, and the preset that the released code ran.

`official_bo` reproduces a search that does not search: 12 layers of the infinite-width kernel put every pair of points
at nearly the same covariance, the fit explains the values by noise alone, expected improvement goes flat, and the
proposals are uniform (docs/methods/tarot.md §5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.exceptions import OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels import InfiniteWidthBNNKernel
from botorch.models.transforms.input import Normalize
from botorch.models.transforms.outcome import Standardize
from botorch.optim import optimize_acqf
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior

from workbench.search.acquisition import ExpectedImprovement, multi_start
from workbench.search.config import SearchConfig
from workbench.search.proposers import Proposal, Proposer
from workbench.search.surrogate import MIN_NOISE, fitted
from workbench.search.trials import Trials
from workbench.search.trust_region import forecast
from workbench.shapes import Float, Tensor

RESTARTS, RAW_SAMPLES = 20, 1024
OFFICIAL_RESTARTS, OFFICIAL_RAW, ITERATIONS = 2, 64, 50
NEAR_SD = 0.05
BNN_DEPTH, OFFICIAL_DEPTH = 3, 12
WEIGHT_VAR, BIAS_VAR = 10.0, 5.0


def bnn_process(points: Float[Tensor, "trial dim"], values: Float[Tensor, " trial"], depth: int, official: bool = False) -> SingleTaskGP:
    """Return a fitted process with the infinite-width ReLU network kernel, from weight variance 10 and bias variance 5.

    Law: K0 = b + w <x, x'>/D; per layer K <- b + (w/2pi) sqrt(K(x,x) K(x',x')) (sin a + (pi - a) cos a), where
    cos a = K(x,x') / sqrt(K(x,x) K(x',x')).
    Differs: `official` adds an output scale, an input normalisation learned from the data and a Gamma noise prior.
    """
    kernel = InfiniteWidthBNNKernel(depth=depth).to(points)
    kernel.weight_var, kernel.bias_var = WEIGHT_VAR, BIAS_VAR
    likelihood, transform = None, None
    if official:
        likelihood = GaussianLikelihood(
            noise_prior=GammaPrior(1.1, 0.05),
            noise_constraint=GreaterThan(MIN_NOISE, transform=None, initial_value=2.0),  # pyright: ignore[reportArgumentType]
        )
        transform = Normalize(d=points.shape[1])
    process = SingleTaskGP(
        points,
        values[:, None],
        likelihood=likelihood,
        covar_module=ScaleKernel(kernel) if official else kernel,
        outcome_transform=Standardize(m=1),
        input_transform=transform,
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
    return process


@dataclass(frozen=True)
class Fit:
    """Hold what a fitted network-kernel process says about itself, in standardised units.

    `signal` is the largest half variance of a difference, Var(f(x) - f(x')) / 2, over pairs of points: what the kernel
    can explain. A collapsed process has next to none, and `noise_share` = noise / (noise + signal) is near 1.
    """

    noise: float
    signal: float

    @property
    def noise_share(self) -> float:
        """Return the share of the variance that the process calls noise."""
        return self.noise / (self.noise + self.signal)


def fit_of(process: SingleTaskGP, points: Float[Tensor, "trial dim"]) -> Fit:
    """Return noise and explainable signal of a process at `points`."""
    with torch.no_grad():
        inputs = process.transform_inputs(points)
        gram = cast(Tensor, process.covar_module(inputs, inputs).to_dense())  # pyright: ignore[reportAttributeAccessIssue]
        diagonal = gram.diagonal()
        halves = (diagonal[:, None] + diagonal[None] - 2 * gram) / 2
        return Fit(float(cast(Tensor, process.likelihood.noise)), float(halves.max()))


class WholeBoxProposer(Proposer):
    """Maximise log expected improvement over the whole box from 20 starts out of 1,024."""

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        if self.config.kernel == "ibnn":
            return self._by_network_kernel(trials, lanes)
        surrogate = fitted(trials.points, trials.values, self.config.kernel)
        believed = surrogate
        points: list[Tensor] = []
        for lane in range(lanes):
            if lane:
                believed = believed.believing(points[-1])
            score = ExpectedImprovement(believed, trials.best.value, self.config.maximize)
            points.append(multi_start(score, self._starts(score, trials, lane)))
        return forecast(surrogate, torch.stack(points), 1.0)

    def _by_network_kernel(self, trials: Trials, lanes: int) -> Proposal:
        seen, values = trials.points, trials.values
        points: list[Tensor] = []
        forecasts: list[tuple[float, float]] = []
        noise = math.nan
        for lane in range(lanes):
            if lane:
                seen = torch.cat([seen, points[-1][None]])
                values = torch.cat([values, values.new_tensor([forecasts[-1][0]])])
            process = bnn_process(seen, values, BNN_DEPTH)
            noise = fit_of(process, seen).noise_share if lane == 0 else noise
            score = LogExpectedImprovement(process, best_f=trials.best.value, maximize=self.config.maximize)
            starts = self._starts(lambda x, score=score: score(x[:, None]), trials, lane)
            points.append(_optimised(score, starts))
            forecasts.append(_mean_and_sd(process, points[-1]))
        means, sds = zip(*forecasts)
        return Proposal(torch.stack(points), "search", means, sds, noise, region=1.0, uninformative=noise > 0.5)

    def _starts(self, score: Callable[[Tensor], Tensor], trials: Trials, lane: int) -> Float[Tensor, "restart dim"]:
        """Return the best of 1,024 points, a tenth of which lie near the incumbent; half of the starts from either."""
        dim, near_count = self.config.dim, RAW_SAMPLES // 10
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + len(trials)) * 131 + lane)
        wide = torch.rand(RAW_SAMPLES - near_count, dim, generator=generator, dtype=torch.float64)
        step = NEAR_SD * torch.randn(near_count, dim, generator=generator, dtype=torch.float64)
        near = (trials.best.point + step).clamp(0.0, 1.0)
        with torch.no_grad():
            return torch.cat([pool[score(pool).topk(RESTARTS // 2).indices] for pool in (wide, near)])


class OfficialProposer(Proposer):
    """Repeat the released search: values negated, the lowest of them called the best, improvement sought upwards.

    Differs: 2 restarts from 64 raw points; with a flat acquisition more of them only cost time.
    """

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        process = bnn_process(trials.points, -trials.values, OFFICIAL_DEPTH, official=True)
        noise = fit_of(process, trials.points).noise_share
        score = LogExpectedImprovement(process, best_f=float((-trials.values).min()), maximize=True)
        generator = self.generator(trials)
        raw = torch.rand(OFFICIAL_RAW, self.config.dim, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            starts = raw[score(raw[:, None]).topk(OFFICIAL_RESTARTS).indices]
        point = _optimised(score, starts)
        mean, sd = _mean_and_sd(process, point)
        return Proposal(point[None], "search", (-mean,), (sd,), noise, region=1.0, uninformative=noise > 0.5)


def _optimised(score: LogExpectedImprovement, starts: Float[Tensor, "restart dim"]) -> Float[Tensor, " dim"]:
    """Return BoTorch's optimum from `starts`, all given: its own start heuristic draws from torch's global stream."""
    bounds = torch.stack([torch.zeros_like(starts[0]), torch.ones_like(starts[0])])
    with torch.enable_grad(), warnings.catch_warnings():
        # A flat acquisition ends L-BFGS abnormally; the start is then as good as any, and `uninformative` says so.
        warnings.simplefilter("ignore", OptimizationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found, _ = optimize_acqf(
            score,
            bounds,
            q=1,
            num_restarts=len(starts),
            batch_initial_conditions=starts[:, None],
            options={"maxiter": ITERATIONS},
        )
    return found[0].detach().clamp(0.0, 1.0)


def _mean_and_sd(process: SingleTaskGP, point: Float[Tensor, " dim"]) -> tuple[float, float]:
    with torch.no_grad():
        posterior = process.posterior(point[None])
        return float(posterior.mean), math.sqrt(max(float(posterior.variance), 0.0))


def whole_box(config: SearchConfig) -> Proposer:
    """Return the proposer of `bo` or `official_bo`."""
    return OfficialProposer(config) if config.chosen == "official_bo" else WholeBoxProposer(config)
