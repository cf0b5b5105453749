"""Bayesian optimisation inside one trust region, for hundreds to thousands of coordinates.

1. Fit a Gaussian process with one lengthscale on all trials.
2. The region is a cube of side L around the best point, clipped to the box.
3. Climb log expected improvement by gradient inside the region; a later lane believes the mean at the earlier ones.
4. 3 improving steps in a row double L, `failure_steps` steps without halve it; below the minimum it starts again.
5. A surrogate whose noise explains more than half of the variance is not asked: mutate the best point, sd L/4.

Ref: Eriksson et al. 2019 (TuRBO); docs/methods/tarot.md §3.6.
Differs: no coordinate masks, no Thompson sampling, no lengthscale per coordinate.
"""

from __future__ import annotations

import torch

from workbench.search.acquisition import ExpectedImprovement, climb
from workbench.search.config import SearchConfig
from workbench.search.proposers import Proposal, Proposer, batches
from workbench.search.surrogate import Surrogate, fitted
from workbench.search.trials import Trials
from workbench.shapes import Float, Tensor


def region_side(config: SearchConfig, trials: Trials) -> float:
    """Return the side of the trust region after `trials`, replayed from their successes and failures."""
    side, wins, losses = config.region_start, 0, 0
    for batch in batches(trials):
        wins, losses = (wins + 1, 0) if batch[0].success else (0, losses + 1)
        if wins >= config.success_tol:
            side, wins = min(config.region_max, 2 * side), 0
        elif losses >= config.failure_steps:
            side, losses = side / 2, 0
        if side < config.region_min:
            side = config.region_start
    return side


class TrustRegionProposer(Proposer):
    """Propose the most promising points of a region around the best one."""

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        side = region_side(self.config, trials)
        surrogate = fitted(trials.points, trials.values)
        generator, best = self.generator(trials), trials.best
        low, high = (best.point - side / 2).clamp_min(0.0), (best.point + side / 2).clamp_max(1.0)
        if surrogate.uninformative:
            noise = torch.randn(lanes, self.config.dim, generator=generator, dtype=torch.float64)
            points = (best.point + side / 4 * noise).clamp(low, high)
        else:
            points = self._climbed(surrogate, low, high, best.point, best.value, lanes, generator)
        return forecast(surrogate, points, side)

    def _climbed(
        self,
        surrogate: Surrogate,
        low: Float[Tensor, " dim"],
        high: Float[Tensor, " dim"],
        centre: Float[Tensor, " dim"],
        best: float,
        lanes: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "lane dim"]:
        points: list[Tensor] = []
        for lane in range(lanes):
            if lane:
                surrogate = surrogate.believing(points[-1])
            score = ExpectedImprovement(surrogate, best, self.config.maximize)
            points.append(climb(score, low, high, centre, generator))
        return torch.stack(points)


def forecast(surrogate: Surrogate, points: Float[Tensor, "lane dim"], side: float) -> Proposal:
    """Return the proposal of `points` with what the surrogate forecasts for them."""
    mean, variance = surrogate.posterior(points)
    return Proposal(
        points,
        predicted=tuple(mean.tolist()),
        predicted_sd=tuple(variance.sqrt().tolist()),
        noise=surrogate.noise,
        lengthscale=surrogate.lengthscale,
        region=side,
        uninformative=surrogate.uninformative,
    )
