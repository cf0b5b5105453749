"""Rotations of head outputs: three parametrisations, their matrices, and the box in which their angles are searched.

Row vectors are rotated from the right, z' = z R. `rotary` pairs ADJACENT coordinates, (2i, 2i+1) with angle t_i:
a' = a cos t + b sin t, b' = -a sin t + b cos t, that is (a + ib) exp(-it). `givens` multiplies plane rotations of a butterfly of levels.
`scale` is no rotation: z' = s z. Ref: docs/methods/tarot.md §2.2, §2.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from workbench.errors import BadKnob, ShapeMismatch
from workbench.shapes import Float, Int, Tensor

Variant = Literal["rotary", "givens", "scale", "mlp"]
Tie = Literal["none", "head", "band"]


def angle_count(variant: Variant, width: int, keep_dead: bool = False) -> int:
    """Return the angles that one head of this width has (one scale for `scale`).

    Raises:
        BadKnob: `rotary` and `mlp` pair coordinates, so the width must be even.
    """
    if variant == "scale":
        return 1
    if variant == "givens":
        return width - 1 if keep_dead else len(givens_planes(width))
    if width % 2:
        raise BadKnob(f"{variant} pairs coordinates, and {width} is odd.", "Use variant = givens or scale.")
    return width // 2


def givens_planes(width: int) -> list[tuple[int, int]]:
    """Return the planes (i, j) of the Givens variant, level by level: i = 2sk, j = i + s for s = 1, 2, 4, …

    Only levels up to 2^floor(log2 d) / 2: a power of two uses d - 1 planes. Other widths use fewer; the angles that the released code
    keeps for them are dead, and are dropped here.
    """
    planes: list[tuple[int, int]] = []
    for level in range(int(math.log2(width))):
        step = 2**level
        planes += [(2 * step * k, 2 * step * k + step) for k in range(width // (2 * step))]
    return planes


def turned(z: Float[Tensor, "... d"], angles: Float[Tensor, "... pair"]) -> Float[Tensor, "... d"]:
    """Return z with each adjacent pair of coordinates turned by its angle; leading dimensions broadcast.

    Norm-preserving; angle 0 returns z unchanged. Computed in float32 at least, returned in the type of z, as a new tensor.
    """
    return _turning(angles)(z)


def _turning(angles: Float[Tensor, "... pair"]) -> Callable[[Tensor], Tensor]:
    """Return z -> turned(z, angles): pairs as complex numbers, (a + ib) exp(-it), the factors formed once."""
    # The trigonometry in float64 as the angles are: 2 pi in float32 is already off by 1.7e-7.
    exact = torch.polar(torch.ones_like(angles, dtype=torch.float64), -angles.double())
    factors = {torch.float64: exact, torch.float32: exact.to(torch.complex64)}

    def turn(z: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        wide = (z if z.dtype == torch.float64 else z.float()).contiguous()
        turns = factors[wide.dtype]
        return (wide.view(turns.dtype) * turns).view(wide.dtype).to(z.dtype)

    return turn


def rotary_matrices(angles: Float[Tensor, "... pair"]) -> Float[Tensor, "... d d"]:
    """Return R (float64) with z R = turned(z, angles)."""
    identity = torch.eye(2 * angles.shape[-1], dtype=torch.float64, device=angles.device)
    return turned(identity.expand(*angles.shape[:-1], *identity.shape), angles[..., None, :].double())


def givens_matrices(angles: Float[Tensor, "... angle"], width: int) -> Float[Tensor, "... d d"]:
    """Return P = G_m … G_2 G_1 (float64), each G a rotation by its angle in its plane: cos on ii and jj, -sin on ij, +sin on ji.

    Angles beyond the planes of this width are dead: they change nothing.
    """
    wide = angles.double()
    product = torch.eye(width, dtype=torch.float64, device=angles.device).expand(*angles.shape[:-1], width, width).clone()
    for k, (i, j) in enumerate(givens_planes(width)):
        cos, sin = wide[..., k, None].cos(), wide[..., k, None].sin()
        row_i, row_j = product[..., i, :].clone(), product[..., j, :].clone()
        product[..., i, :] = cos * row_i - sin * row_j
        product[..., j, :] = sin * row_i + cos * row_j
    return product


def matrices(variant: Variant, angles: Float[Tensor, "... angle"], width: int) -> Float[Tensor, "... d d"]:
    """Return the map R of z' = z R of any variant, float64."""
    if variant == "givens":
        return givens_matrices(angles, width)
    if variant == "scale":
        return angles.double()[..., None] * torch.eye(width, dtype=torch.float64, device=angles.device)
    return rotary_matrices(angles)


def mapping(variant: Variant, angles: Float[Tensor, "*lead angle"]) -> Callable[[Tensor], Tensor]:
    """Return the map z' = z R of any variant, for z (... head d).

    `angles` broadcasts over the leading dimensions of z; rotary and scale need no matrix, and rotary forms its factors once.
    """
    if variant in ("rotary", "mlp"):
        return _turning(angles)

    def act(z: Float[Tensor, "... head d"]) -> Float[Tensor, "... head d"]:
        wide = torch.float64 if z.dtype == torch.float64 else torch.float32
        if variant == "scale":
            return (z.to(wide) * angles.to(wide)).to(z.dtype)
        rotation = givens_matrices(angles, z.shape[-1]).to(wide)
        return (z.to(wide)[..., None, :] @ rotation)[..., 0, :].to(z.dtype)

    return act


def at_dose(variant: Variant, angles: Float[Tensor, "..."], dose: float) -> Float[Tensor, "..."]:
    """Return the angles at a dose: dose x angle; for `scale`, 1 + dose (s - 1)."""
    return 1 + dose * (angles - 1) if variant == "scale" else dose * angles


def mean_cosine(variant: Variant, angles: Float[Tensor, "... angle"], width: int) -> Float[Tensor, "..."]:
    """Return the mean of cos(z, z') over isotropic z: trace(R) / d, to first order in 1/d for `givens`."""
    if variant == "scale":
        return torch.ones_like(angles[..., 0])
    if variant == "givens":
        return givens_matrices(angles, width).diagonal(dim1=-2, dim2=-1).mean(-1)
    return angles.cos().mean(-1)


@dataclass(frozen=True)
class AngleSpace:
    """Hold which angles are free, and map a flat vector of them to the tensor (layer, head, angle) and back.

    Flat order: layer, then head, then angle. Heads that are not listed keep the identity. Under `tie` one flat coordinate drives a whole
    head (`head`), or one of `bands` contiguous groups of its angles (`band`).

    Args:
        variant: parametrisation.
        layers: edited layers, ascending.
        n_heads: query heads (1 for `mlp`).
        width: d_head (d_model for `mlp`).
        bound: largest angle in radians; the box is [-bound, bound] (for `scale` [0, 1]).
        heads: (layer, head) pairs that may turn; None: all of the layers.
    """

    variant: Variant
    layers: tuple[int, ...]
    n_heads: int
    width: int
    bound: float = math.pi / 4
    tie: Tie = "none"
    bands: int = 4
    heads: tuple[tuple[int, int], ...] | None = None
    keep_dead: bool = False

    @property
    def per_head(self) -> int:
        """Return the angles of one head."""
        return angle_count(self.variant, self.width, self.keep_dead)

    @property
    def dim(self) -> int:
        """Return the number of free coordinates."""
        return int(self.owner.max()) + 1

    @property
    def identity(self) -> float:
        """Return the coordinate of the unit cube that changes nothing."""
        return 1.0 if self.variant == "scale" else 0.5

    @cached_property
    def owner(self) -> Int[Tensor, "layer head angle"]:
        """The flat coordinate that drives each angle; -1 where the angle is fixed at the identity.

        Raises:
            BadKnob: none of the listed heads lies in the layers.
        """
        count = self.per_head
        groups = {"none": count, "head": 1, "band": min(self.bands, count)}[self.tie]
        group_of = torch.arange(count) * groups // count
        free = [[self.heads is None or (layer, head) in self.heads for head in range(self.n_heads)] for layer in self.layers]
        chosen = torch.tensor(free)
        if not bool(chosen.any()):
            raise BadKnob(
                f"None of the heads {self.heads} lies in the layers {self.layers}.", "List heads as layer.head of the edited layers."
            )
        first = (chosen.flatten().long().cumsum(0) - 1).view_as(chosen) * groups
        return torch.where(chosen[..., None], first[..., None] + group_of, -1)

    def angles(self, points: Float[Tensor, "... dim"]) -> Float[Tensor, "... layer head angle"]:
        """Return the angles in radians (scales) of points of the unit cube: (2u - 1) bound, or u for `scale`.

        Raises:
            ShapeMismatch: points of another space.
        """
        if points.shape[-1] != self.dim:
            raise ShapeMismatch(f"Got {points.shape[-1]} coordinates for {self.dim} angles.", "Pass points of this search space.")
        values = points if self.variant == "scale" else (2 * points - 1) * self.bound
        fixed = values.new_full((*values.shape[:-1], 1), 1.0 if self.variant == "scale" else 0.0)
        return torch.cat([values, fixed], dim=-1)[..., self.owner]

    def points(self, angles: Float[Tensor, "layer head angle"]) -> Float[Tensor, "dim"]:
        """Return the point of the unit cube whose angles these are: the inverse of `angles` on its range."""
        point = torch.empty(self.dim, dtype=torch.float64)
        free = self.owner >= 0
        values = angles.double()[free]
        point[self.owner[free]] = values if self.variant == "scale" else (values / self.bound + 1) / 2
        return point
