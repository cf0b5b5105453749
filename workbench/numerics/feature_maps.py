"""Element-wise feature maps of Φ-SEA and their (pseudo-)inverses.

Ref: docs/methods/sea.md §2.4. Differs: `squared_exponential` is inverted with the square root that the released code lacks (`squared`
reproduces it); elu is computed so that it is finite for any x (the naive masked product is NaN above 88 in float32).
"""

from __future__ import annotations

from typing import Literal

import torch

from workbench.shapes import Float, Tensor

Phi = Literal["none", "squared_exponential", "tanh", "elu"]
SquaredExponentialInverse = Literal["sqrt", "squared"]

_CLAMP = 1e-4


def mapped(x: Float[Tensor, "*shape"], phi: Phi) -> Float[Tensor, "*shape"]:
    """φ(x), element-wise."""
    if phi == "squared_exponential":
        return torch.exp(-x.square() / 2)
    if phi == "tanh":
        return torch.tanh(x)
    if phi == "elu":
        return torch.where(x >= 0, x, torch.expm1(x.clamp_max(0)))
    return x


def unmapped(y: Float[Tensor, "*shape"], phi: Phi, inverse: SquaredExponentialInverse = "sqrt") -> Float[Tensor, "*shape"]:
    """φ⁻¹(y), element-wise, clamped to where it is finite.

    squared_exponential loses the sign: `sqrt` returns |x| for |x| < 4.29, `squared` x² (the released code).
    """
    if phi == "squared_exponential":
        if inverse == "squared":
            return -2 * torch.log(y.clamp_min(_CLAMP))
        return (-2 * torch.log(y.clamp(_CLAMP, 1.0))).clamp_min(0).sqrt()
    if phi == "tanh":
        return torch.atanh(y.clamp(-1 + _CLAMP, 1 - _CLAMP))
    if phi == "elu":
        return torch.where(y >= 0, y, torch.log1p(y.clamp(-1 + _CLAMP, 0)))
    return y


def clamped_share(x: Float[Tensor, "*shape"], phi: Phi) -> float:
    """Share of coordinates that φ maps beyond where φ⁻¹ can bring them back: 0 without φ."""
    if phi == "none" or x.numel() == 0:
        return 0.0
    limit = {"squared_exponential": 4.29, "tanh": 4.95, "elu": 9.21}[phi]
    return float(((-x if phi == "elu" else x.abs()) > limit).double().mean())
