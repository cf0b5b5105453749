"""Gain and harmlessness over a pool of designs: which one to measure next, by expected growth of the front's hypervolume.

The pool is finite, so categories are columns of zeros and ones, and every design is scored: nothing is rounded to a neighbour.

1. The first designs are drawn: kinds in turn, in a random order of each kind's designs. Random search goes on so.
2. One Gaussian process an objective is fitted to all that was measured (BoTorch's defaults; a lengthscale a column). At dose 0 nothing
   happens: to first order gain grows with the dose and damage with its square. So the first process has gain / dose, whose sizes differ by
   powers of ten among designs (as asinh of it over its median size), the second −log₁₀ damage + 2 log₁₀ dose.
3. Each design of a batch is the one with the largest log noisy expected hypervolume improvement, given those before it.

Proposals follow from the seed and the values so far alone, in whole batches: a search that was stopped goes on as if it had not been.
Ref: docs/methods/shared.md §9.7; Ament et al. 2023 (qLogNEHVI); Daulton, Balandat, Bakshy 2021.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.exceptions import BotorchWarning, OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms.input import FilterFeatures
from botorch.models.transforms.outcome import Standardize
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood

from workbench.progress import stop_if_asked
from workbench.shapes import Float, Int, Tensor

# BoTorch would compile a faster kernel at the first search: half a minute where there is a compiler, a warning where there is none, a wait
# without end where a compilation was killed; and the same seed would propose other designs on the next machine.
logei.__dict__["_load_attempted"] = True

N_DRAWN, BATCH = 12, 4
_SAMPLES, _CHUNK, _STEPS = 64, 256, 60
_LEFT = 128
"""Of how many of the best designs the second and later of a batch are chosen: a design before them only lowers the others' scores."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Designs as numbers: `features` in the unit cube, `kinds` that draws take in turn, `doses`.

    A front covers what lies above `reference` (gain, −log₁₀ damage) and below `most` in the second.
    """

    features: Float[np.ndarray, "design feature"]
    kinds: Int[np.ndarray, " design"]
    doses: Float[np.ndarray, " design"]
    reference: tuple[float, float] = (0.0, 0.0)
    most: float = math.inf
    seed: int = 0
    n_drawn: int = N_DRAWN
    batch: int = BATCH

    def draws(self) -> list[int]:
        """All designs in the order of random search: one of each kind in turn, kinds in a new order each time."""
        drawn = np.random.default_rng(self.seed)
        left = {int(kind): drawn.permutation(np.flatnonzero(self.kinds == kind)).tolist() for kind in np.unique(self.kinds)}
        order: list[int] = []
        while left:
            for kind in drawn.permutation(sorted(left)).tolist():
                order.append(left[kind].pop())
                if not left[kind]:
                    del left[kind]
        return order

    def ask(self, seen: Sequence[int], values: Float[np.ndarray, "trial two"]) -> list[int]:
        """The designs to measure next, the rest of a batch that was begun; none when all of the pool are seen.

        Args:
            seen: designs measured so far, in order. values: gain and −log₁₀ damage of each; NaN where one could not be measured.
        """
        if len(seen) < self.n_drawn:
            return self.draws()[len(seen) : self.n_drawn]
        begun = len(seen) - (len(seen) - self.n_drawn) % self.batch
        left = np.setdiff1d(np.arange(len(self.kinds)), seen[:begun])
        if not len(left):
            return []
        known = np.isfinite(values[:begun]).all(1)
        if known.sum() < 2:  # nothing to learn from: go on drawing
            found = [design for design in self.draws() if design in set(left.tolist())][: self.batch]
        else:
            at = np.asarray(seen[:begun])[known]
            found = self._best(at, values[:begun][known], left, begun)
        return [design for design in found if design not in seen[begun:]]

    def _best(
        self, at: Int[np.ndarray, " trial"], values: Float[np.ndarray, "trial two"], left: Int[np.ndarray, " left"], n: int
    ) -> list[int]:
        # The dose travels as a last column, which the processes do not see.
        whole = torch.from_numpy(np.column_stack([self.features, self.doses]))
        slopes = values[:, 0] / self.doses[at]
        size = float(np.median(np.abs(slopes))) + 1e-12
        # What is ten times as harmful as the reference is a ruin, and how much of one tells nothing.
        harmless = np.maximum(values[:, 1], self.reference[1] - 1) + 2 * np.log10(self.doses[at])
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", OptimizationWarning)  # a fit that stops early still proposes
            warnings.simplefilter("ignore", BotorchWarning)
            torch.manual_seed(self.seed + n)
            processes = (_process(whole[at], torch.from_numpy(y)) for y in (np.arcsinh(slopes / size), harmless))
            score = qLogNoisyExpectedHypervolumeImprovement(
                ModelListGP(*processes), list(self.reference), whole[at], prune_baseline=True,
                sampler=SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=self.seed + n),
                objective=GenericMCMultiOutputObjective(partial(_meant, size, self.most)),
            )  # fmt: skip
            return self._greedy(score, whole, left)

    def _greedy(
        self, score: qLogNoisyExpectedHypervolumeImprovement, whole: Float[Tensor, "design column"], left: Int[np.ndarray, " left"]
    ) -> list[int]:
        found: list[int] = []
        for _ in range(min(self.batch, len(left))):
            if found:
                score.set_X_pending(whole[found])
            scores = _scored(score, whole[left])
            found.append(int(left[int(scores.argmax())]))
            best = left[scores.argsort(descending=True)[: _LEFT + 1].numpy()]
            left = best[best != found[-1]]
        return found


def _meant(size: float, most: float, samples: Float[Tensor, "*lead two"], X: Tensor | None = None) -> Tensor:  # noqa: N803 - BoTorch's name
    """Gain and −log₁₀ damage of what the processes have, at points whose last column is the dose."""
    dose = cast(Tensor, X)[..., -1]
    return torch.stack([samples[..., 0].sinh() * size * dose, (samples[..., 1] - 2 * dose.log10()).clamp(max=most)], -1)


def _process(points: Float[Tensor, "trial column"], values: Float[Tensor, " trial"]) -> SingleTaskGP:
    stop_if_asked()
    seen = FilterFeatures(torch.arange(points.shape[1] - 1))
    process = SingleTaskGP(points, values[:, None], outcome_transform=Standardize(m=1), input_transform=seen)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process), optimizer_kwargs={"options": {"maxiter": _STEPS}})
    return process


@torch.no_grad()
def _scored(score: qLogNoisyExpectedHypervolumeImprovement, points: Float[Tensor, "design feature"]) -> Float[Tensor, " design"]:
    found: list[Tensor] = []
    for part in points.split(_CHUNK):
        stop_if_asked()
        found.append(score(part[:, None]))
    return torch.cat(found)
