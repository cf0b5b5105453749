"""A linear probe by regularised logistic regression, in float64, balanced between its classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.shapes import Float, Rows2d, Tensor


@dataclass(frozen=True)
class LinearProbe:
    """score(x) = w·x + b; positive means the first class."""

    weight: Float[Tensor, "width"]
    bias: Float[Tensor, ""]

    def scores(self, x: Rows2d) -> Float[Tensor, "row"]:
        """w·x + b of each row, in float64."""
        return x.double() @ self.weight + self.bias


def logistic(yes: Rows2d, no: Rows2d, l2: float = 1e-2, n_steps: int = 60) -> LinearProbe:
    """Minimise ½ mean BCE over `yes` + ½ mean BCE over `no` + l2 ‖w‖² in standardised coordinates; return the probe in raw ones.

    Strictly convex, so the result does not depend on a seed. Standardised, because coordinates of a residual stream differ much in size.
    """
    x = torch.cat([yes, no]).double()
    centre, scale = x.mean(0), x.std(0).clamp_min(1e-8)
    z = (x - centre) / scale
    labels = torch.cat([torch.ones(len(yes)), torch.zeros(len(no))]).to(z)
    weights = torch.cat([torch.full((len(yes),), 0.5 / len(yes)), torch.full((len(no),), 0.5 / len(no))]).to(z)
    w, b = torch.zeros(z.shape[1], dtype=torch.float64, device=z.device), torch.zeros((), dtype=torch.float64, device=z.device)
    w.requires_grad_()
    b.requires_grad_()
    optimizer = torch.optim.LBFGS([w, b], max_iter=n_steps, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weights * binary_cross_entropy_with_logits(z @ w + b, labels, reduction="none")).sum() + l2 * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight = (w / scale).detach()
    return LinearProbe(weight, (b - (w / scale) @ centre).detach())
