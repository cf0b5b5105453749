"""Where to look next: analytic log expected improvement, and its ascent inside a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

from workbench.progress import stop_if_asked
from workbench.search.surrogate import Surrogate
from workbench.shapes import Float, Tensor

SCORED, _KEPT, _STEPS, RATE, NEAR = 32, 2, 60, 0.03, 0.02
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


def log_improvement(scaled: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return ln(phi(u) + u Phi(u)), stable for every u.

    Law: for u < -1, phi(u) (1 - |u| sqrt(pi/2) erfcx(|u|/sqrt 2)); far below, the bracket is 1/u^2 (1 - 3/u^2 + 15/u^4).
    Ref: Ament et al. 2023, Unexpected improvements to expected improvement.
    """
    high = scaled.clamp_min(-1.0)
    direct = torch.log(_density(high) + high * torch.special.ndtr(high))
    # Beyond 100 the bracket loses half of its digits to cancellation, and the series has all of them.
    size = (-scaled).clamp(1.0, 100.0)
    bracket = torch.log1p(-size * math.sqrt(math.pi / 2) * torch.special.erfcx(size / math.sqrt(2.0)))
    inverse = scaled.clamp_max(-100.0).square().reciprocal()
    series = torch.log(inverse * (1 - 3 * inverse + 15 * inverse.square()))
    far = torch.where(scaled < -100.0, series, bracket)
    tail = -0.5 * scaled.square() - _LOG_ROOT_2PI + far
    return torch.where(scaled > -1.0, direct, tail)


@dataclass(frozen=True, eq=False)
class ExpectedImprovement:
    """Score points by ln E[max(f - best, 0)] under a surrogate; downwards (best - f) with `maximize=False`."""

    surrogate: Surrogate
    best: float
    maximize: bool = True

    def __call__(self, points: Float[Tensor, "m dim"]) -> Float[Tensor, " m"]:
        return self._slopes(*self.surrogate.posterior(points))[0]

    def with_gradient(self, points: Float[Tensor, "m dim"]) -> tuple[Float[Tensor, " m"], Float[Tensor, "m dim"]]:
        """Return score and gradient of every point."""
        stop_if_asked()
        return self.surrogate.pulled_back(points, self._slopes)

    def _slopes(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sign = 1.0 if self.maximize else -1.0
        sd = variance.sqrt()
        u = sign * (mean - self.best) / sd
        log_h = log_improvement(u)
        # d ln h/du = Phi/h and h - u Phi = phi: both ratios stay finite where Phi, phi and h underflow.
        by_mean = sign * torch.exp(torch.special.log_ndtr(u) - log_h) / sd
        by_sd = torch.exp(-0.5 * u.square() - _LOG_ROOT_2PI - log_h) / sd
        return torch.log(sd) + log_h, by_mean, by_sd / (2 * sd)


def climb(
    score: ExpectedImprovement,
    low: Float[Tensor, " dim"],
    high: Float[Tensor, " dim"],
    centre: Float[Tensor, " dim"],
    generator: torch.Generator,
) -> Float[Tensor, " dim"]:
    """Return the best point that gradient ascent on `score` finds inside the box.

    Score 32 uniform points of the box and 32 Gaussian ones (sd .02) around `centre`, keep the best 2 of each, climb
    60 steps of Adam. All candidates share one posterior call, so the cost hardly grows with their number.
    """
    shape = (SCORED, low.shape[0])
    uniform = low + (high - low) * torch.rand(shape, generator=generator, dtype=low.dtype)
    near = (centre + NEAR * torch.randn(shape, generator=generator, dtype=low.dtype)).clamp(low, high)
    x = torch.cat([pool[score(pool).topk(_KEPT).indices] for pool in (uniform, near)])
    adam = torch.optim.Adam([x], lr=RATE, maximize=True)
    for _ in range(_STEPS):
        x.grad = score.with_gradient(x)[1]
        adam.step()
        x.clamp_(low, high)
    return x[score(x).argmax()].clone()


def multi_start(score: ExpectedImprovement, starts: Float[Tensor, "restart dim"], iterations: int = 100) -> Float[Tensor, " dim"]:
    """Return the best point of the unit cube that L-BFGS-B reaches from `starts`, all climbed together."""
    shape = starts.shape

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = score.with_gradient(torch.from_numpy(flat.reshape(shape)))
        return -float(value.sum()), -gradient.numpy().ravel()

    end = minimize(
        loss,
        starts.numpy().ravel().copy(),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(0.0, 1.0),
        options={"maxiter": iterations},
    )
    points = torch.from_numpy(np.asarray(end.x)).reshape(shape).clamp(0.0, 1.0)
    return points[score(points).argmax()].clone()


def _density(u: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    return torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi)
