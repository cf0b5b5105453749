"""An exact Gaussian process with one lengthscale, fast enough to be refitted at every step of a search.

The model is BoTorch's `SingleTaskGP(points, values, covar_module=RBF or Matern-5/2 without output scale, outcome_transform=Standardize)`
with the dimension-scaled lengthscale prior and BoTorch's noise prior. Its three hyper-parameters need no autograd: the mean has a closed
form, the other two a two-dimensional climb over one matrix of distances. BoTorch's generic fit of the same model took 0.2-1.1 s a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from workbench.errors import NotEnoughData
from workbench.shapes import Float, Tensor

NOISE_PRIOR = (-4.0, 1.0)
MIN_NOISE, MIN_LENGTHSCALE, MIN_VARIANCE = 1e-4, 2.5e-2, 1e-12
UNINFORMATIVE_NOISE = 0.5
_ROOT5 = math.sqrt(5.0)
Matrix = NDArray[np.float64]


def lengthscale_prior(dim: int) -> tuple[float, float]:
    """Return location and scale of the log-normal prior of the lengthscale, LogNormal(sqrt 2 + ln(D)/2, sqrt 3).

    Ref: Hvarfner et al. 2024 (dimension-scaled prior); docs/methods/tarot.md §3.6.
    """
    return math.sqrt(2.0) + math.log(dim) / 2, math.sqrt(3.0)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Hold a fitted process over the unit cube; build it with `fitted`.

    `noise` is a share of the standardised variance of the values: above .5 the process explains less than half of what it saw.
    """

    points: Float[Tensor, "trial dim"]
    standardised: Float[Tensor, " trial"]
    shift: float
    scale: float
    kernel: str
    lengthscale: float
    noise: float
    mean: float
    precision: Float[Tensor, "trial trial"]
    weights: Float[Tensor, " trial"]

    @property
    def uninformative(self) -> bool:
        """Whether the fitted noise exceeds half of the standardised variance."""
        return self.noise > UNINFORMATIVE_NOISE

    def posterior(self, points: Float[Tensor, "m dim"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return mean and variance (without noise) of the function at `points`, in units of the values."""
        cross, _ = _kernel_torch(_squared_distances(points, self.points), self.lengthscale, self.kernel)
        mean = self.mean + cross @ self.weights
        variance = (1.0 - (cross @ self.precision * cross).sum(dim=1)).clamp_min(MIN_VARIANCE)
        return self.shift + self.scale * mean, self.scale**2 * variance

    def pulled_back(
        self,
        points: Float[Tensor, "m dim"],
        slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m dim"]]:
        """Return a score of (mean, variance) at `points` and its gradient in the points, by hand: no autograd graph.

        Law: dk_j/dx = k'_j (x - x_j), so the gradient is one product with the matrix of trials.

        Args:
            slopes: (mean, variance) -> (score, d score/d mean, d score/d variance).
        """
        cross, slope = _kernel_torch(_squared_distances(points, self.points), self.lengthscale, self.kernel)
        solved = cross @ self.precision
        variance = (1.0 - (solved * cross).sum(dim=1)).clamp_min(MIN_VARIANCE)
        mean = self.shift + self.scale * (self.mean + cross @ self.weights)
        value, by_mean, by_variance = slopes(mean, self.scale**2 * variance)
        by_cross = self.scale * by_mean[:, None] * self.weights - 2 * self.scale**2 * by_variance[:, None] * solved
        pull = by_cross * slope
        return value, points * pull.sum(dim=1, keepdim=True) - pull @ self.points

    def believing(self, point: Float[Tensor, " dim"]) -> Surrogate:
        """Return the process that has also seen its own mean at `point`: the next lane of a batch then goes elsewhere."""
        believed = (self.posterior(point[None])[0] - self.shift) / self.scale
        points = torch.cat([self.points, point[None]])
        standardised = torch.cat([self.standardised, believed])
        return _solved(points, standardised, self.shift, self.scale, self.kernel, self.lengthscale, self.noise, self.mean)

    def leave_one_out(self) -> Float[Tensor, " trial"]:
        """Return the forecast of each value from all the others, in units of the values (hyper-parameters kept)."""
        return self.shift + self.scale * (self.standardised - self.weights / self.precision.diagonal())


def fitted(points: Float[Tensor, "trial dim"], values: Float[Tensor, " trial"], kernel: str = "rbf") -> Surrogate:
    """Return the maximum a posteriori process for `values` at `points` (float64, unit cube).

    Law: max over (lengthscale, noise, mean) of log N(y; mean, K + noise I) + log p(lengthscale) + log p(noise), y standardised.
    Differs: the mean is profiled out in closed form instead of being climbed; the maximum is the same.

    Raises:
        NotEnoughData: fewer than two trials.
    """
    if len(values) < 2:
        raise NotEnoughData(f"A surrogate needs 2 trials, got {len(values)}.", "Evaluate an initial design first.")
    shift, spread = float(values.mean()), float(values.std())
    scale = spread if spread > 1e-12 else 1.0  # all values equal: nothing to standardise, the process stays flat
    y = (values - shift) / scale
    squared = _squared_distances(points, points)
    squared.fill_diagonal_(0.0)
    lengthscale, noise = _map_estimate(squared.numpy(), y.numpy(), points.shape[1], kernel)
    gram = _kernel_numpy(squared.numpy(), lengthscale, kernel)[0] + noise * np.eye(len(y))
    mean = _profiled_mean(cho_factor(gram, lower=True), y.numpy())
    return _solved(points, y, shift, scale, kernel, lengthscale, noise, mean)


def _solved(
    points: Float[Tensor, "trial dim"],
    standardised: Float[Tensor, " trial"],
    shift: float,
    scale: float,
    kernel: str,
    lengthscale: float,
    noise: float,
    mean: float,
) -> Surrogate:
    """The process with these hyper-parameters: its Gram matrix is inverted here."""
    gram, _ = _kernel_torch(_squared_distances(points, points), lengthscale, kernel)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(gram + noise * torch.eye(len(points), dtype=gram.dtype)))
    return Surrogate(points, standardised, shift, scale, kernel, lengthscale, noise, mean, precision, precision @ (standardised - mean))


def log_posterior(squared: Matrix, y: Matrix, dim: int, kernel: str, lengthscale: float, noise: float) -> tuple[float, NDArray[np.float64]]:
    """Return log p(y | lengthscale, noise) + log priors, mean profiled out, and its gradient in (ln lengthscale, ln noise).

    Args:
        squared: squared distances of the points.
        y: standardised values.
        dim: coordinates of the box, for the lengthscale's prior.
    """
    n = len(y)
    gram, by_lengthscale = _kernel_numpy(squared, lengthscale, kernel)
    factor = cho_factor(gram + noise * np.eye(n), lower=True)
    residual = y - _profiled_mean(factor, y)
    inverse = cho_solve(factor, np.eye(n))
    alpha = inverse @ residual
    value = -0.5 * residual @ alpha - np.log(np.diag(factor[0])).sum() - 0.5 * n * math.log(2 * math.pi)
    inner = np.outer(alpha, alpha) - inverse
    gradient = np.array([0.5 * (inner * by_lengthscale).sum(), 0.5 * noise * np.trace(inner)])
    for place, (at, (location, spread)) in enumerate(((lengthscale, lengthscale_prior(dim)), (noise, NOISE_PRIOR))):
        z = (math.log(at) - location) / spread
        value += -0.5 * z * z - math.log(at * spread * math.sqrt(2 * math.pi))
        gradient[place] += -z / spread - 1.0
    return float(value), gradient


def _map_estimate(squared: Matrix, y: Matrix, dim: int, kernel: str) -> tuple[float, float]:
    location, spread = lengthscale_prior(dim)
    mode = math.exp(location - spread**2)

    def loss(logs: Matrix) -> tuple[float, Matrix]:
        value, gradient = log_posterior(squared, y, dim, kernel, math.exp(logs[0]), math.exp(logs[1]))
        return -value, -gradient

    # Two starts: a long lengthscale explained by signal, and a short one; with few points the posterior often has both modes.
    starts = [(math.log(max(mode, MIN_LENGTHSCALE)), -5.0), (location, -2.0)]
    bounds = [(math.log(MIN_LENGTHSCALE), location + 4 * spread), (math.log(MIN_NOISE), 2.0)]
    ends = [minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(ends, key=lambda end: float(end.fun))
    return math.exp(best.x[0]), math.exp(best.x[1])


def _profiled_mean(factor: tuple[Matrix, bool], y: Matrix) -> float:
    solved = cho_solve(factor, np.ones(len(y)))
    return float(solved @ y / solved.sum())


def _squared_distances(a: Float[Tensor, "m dim"], b: Float[Tensor, "n dim"]) -> Float[Tensor, "m n"]:
    # Centred on the box's middle: the expansion loses no digits to a common offset of half the cube's diagonal.
    a, b = a - 0.5, b - 0.5
    return (a.square().sum(-1)[:, None] + b.square().sum(-1)[None] - 2 * a @ b.T).clamp_min(0.0)


def _kernel_torch(squared: Tensor, lengthscale: float, kernel: str) -> tuple[Tensor, Tensor]:
    """Return the kernel k and its slope k', with dk/dx = k' (x - x_j)."""
    if kernel == "rbf":
        gram = torch.exp(squared * (-0.5 / lengthscale**2))
        return gram, gram * (-1 / lengthscale**2)
    r = _ROOT5 * torch.sqrt(squared) / lengthscale
    decay = torch.exp(-r)
    return (1 + r + r.square() / 3) * decay, (1 + r) * decay * (-5 / (3 * lengthscale**2))


def _kernel_numpy(squared: Matrix, lengthscale: float, kernel: str) -> tuple[Matrix, Matrix]:
    """Return the kernel matrix and its derivative in ln(lengthscale)."""
    scaled = squared / lengthscale**2
    if kernel == "rbf":
        gram = np.exp(-0.5 * scaled)
        return gram, gram * scaled
    r = _ROOT5 * np.sqrt(scaled)
    decay = np.exp(-r)
    return (1 + r + r * r / 3) * decay, (r * r / 3) * (1 + r) * decay
