"""What every optimiser is: a pure function of the config and the trials so far; and the two that need no surrogate.

Because nothing is remembered outside of the trials, a search that resumes from its record continues exactly as if it had never stopped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.quasirandom import SobolEngine

from workbench.search.config import SearchConfig
from workbench.search.trials import Trial, Trials
from workbench.shapes import Float, Tensor

GROW, SHRINK = 1.5, 0.92
MARGIN = 1e-3


@dataclass(frozen=True, eq=False)
class Proposal:
    """Hold the next candidates, one a lane, and what the surrogate forecasts for them."""

    points: Float[Tensor, "lane dim"]
    stage: str = "search"
    predicted: tuple[float, ...] = ()
    predicted_sd: tuple[float, ...] = ()
    noise: float = math.nan
    lengthscale: float = math.nan
    region: float = math.nan
    uninformative: bool = False


class Proposer(ABC):
    """Propose the next candidates from the trials so far."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def design(self) -> Float[Tensor, "n_init dim"]:
        """Return the first points, which need no trials."""
        return initial_design(self.config)

    @abstractmethod
    def propose(self, trials: Trials, lanes: int) -> Proposal:
        """Return `lanes` points of the unit cube; the same trials give the same points."""

    def generator(self, trials: Trials) -> torch.Generator:
        """Return the random stream of the call that follows `trials`."""
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + len(trials) + 1)


class RandomProposer(Proposer):
    """Draw uniform points, independently: the control that every search has to beat."""

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        return Proposal(torch.rand(lanes, self.config.dim, generator=self.generator(trials), dtype=torch.float64))


class EvolutionProposer(Proposer):
    """Mutate the best point: best + N(0, sigma^2) clipped, sigma x 1.5 after a success and x .92 per failing call."""

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        sigma = self.sigma(trials)
        noise = torch.randn(lanes, self.config.dim, generator=self.generator(trials), dtype=torch.float64)
        return Proposal((trials.best.point + sigma * noise).clamp(0.0, 1.0), region=sigma)

    def sigma(self, trials: Trials) -> float:
        """Return the mutation's standard deviation after `trials`."""
        sigma = self.config.step
        for batch in batches(trials):
            sigma *= GROW if batch[0].success else SHRINK ** len(batch)
        return min(sigma, 1.0)


def batches(trials: Trials) -> list[tuple[Trial, ...]]:
    """Return the searched trials grouped by the batch that they were proposed in."""
    groups: dict[int, list[Trial]] = {}
    for row in trials.rows:
        if row.stage == "search":
            groups.setdefault(row.batch, []).append(row)
    return [tuple(group) for group in groups.values()]


def initial_design(config: SearchConfig) -> Float[Tensor, "n_init dim"]:
    """Return the identity followed by scrambled Sobol points (independent uniform ones beyond Sobol's 21,201 coordinates).

    Without an identity the released code's design: independent uniform points.
    """
    count = config.initial_calls
    generator = torch.Generator().manual_seed(config.seed * 1_000_003)
    if not config.include_identity:
        return torch.rand(count, config.dim, generator=generator, dtype=torch.float64)
    identity = torch.full((1, config.dim), config.identity, dtype=torch.float64)
    if count == 1:
        return identity
    if config.dim > SobolEngine.MAXDIM:
        others = torch.rand(count - 1, config.dim, generator=generator, dtype=torch.float64)
    else:
        # One draw at a time would advance the same sequence; drawn at once it does not depend on the number of lanes.
        others = SobolEngine(config.dim, scramble=True, seed=config.seed).draw(count - 1, dtype=torch.float64)
    return torch.cat([identity, others])


def improves(value: float, best: float) -> bool:
    """Whether `value` counts as a success: more than 1e-3 |best| above `best`."""
    return value > best + MARGIN * abs(best)
