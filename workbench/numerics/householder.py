"""Rotate activations towards the positive side of a hyperplane, in the plane that they span with its normal.

Ref: docs/methods/hpr.md §2.2. u = w/‖w‖, c = u·x, s = ‖x‖. Only tokens with c ≤ 0 move, by γ₁ towards e, the unit vector orthogonal to x in
span{x, w} on the positive side: x' = cos γ₁ x + s sin γ₁ e. Norms are kept, the angle between x and x' is γ₁, and w·x' = s ‖w‖ sin(γ₁ −
γ₂/2) with γ₂ = 2 arcsin(|c|/s), so the probe's decision flips iff γ₁ > γ₂/2.

The released code's form (`official`, docs/methods/hpr.md §5): x' = sin γ₁/sin γ₂ x_m + sin(γ₂ − γ₁)/sin γ₂ x with the mirror image x_m =
x (I − 2 w wᵀ/‖w‖²) and γ₂ = arccos of their cosine clamped to ±(1 − 1e-7). In float32 that is never below 4.9e-4, so within about
2.4e-4 of the hyperplane x' is shorter than x, down to |cos γ₁| of its length; elsewhere both forms are the same in exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from workbench.shapes import Activations, Bool, Float, Tensor

# arcsin: the official sum by the exact γ₂, which earlier edits of that name were fitted and saved with.
Formula = Literal["closed_form", "official", "arcsin"]
# Below this length of the part of u orthogonal to x, x is antiparallel to w and no plane is spanned.
_DEGENERATE = 1e-6


def reflected(x: Float[Tensor, "... d_model"], w: Float[Tensor, " d_model"]) -> Float[Tensor, "... d_model"]:
    """Mirror image of x through the hyperplane with normal w: x − 2 (u·x) u."""
    u = w / w.norm()
    return x - 2 * (x @ u)[..., None] * u


def angle_between(a: Float[Tensor, "... d_model"], b: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
    """Angle in radians: 2 atan2(‖â − b̂‖, ‖â + b̂‖), exactly 0 for equal inputs, accurate near 0 and π."""
    one, two = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    return 2 * torch.atan2((one - two).norm(dim=-1), (one + two).norm(dim=-1))


def clamped_angle(a: Float[Tensor, "... d_model"], b: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
    """The released code's angle: arccos of a cosine clamped to ±(1 − 1e-7), about 4.9e-4 for equal float32 inputs."""
    cosine = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return torch.arccos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))


def mirror_angle(x: Float[Tensor, "... d_model"], w: Float[Tensor, " d_model"]) -> Float[Tensor, "..."]:
    """γ₂ = 2 arcsin(|c|/s), the angle between x and its mirror image."""
    s = x.norm(dim=-1).clamp_min(torch.finfo(x.dtype).tiny)
    return 2 * torch.arcsin(((x @ w) / w.norm()).abs().div(s).clamp_max(1.0))


def rotated_in_plane(
    x: Float[Tensor, "token d_model"], w: Float[Tensor, " d_model"], angle: Float[Tensor, " token"], formula: Formula = "closed_form"
) -> Float[Tensor, "token d_model"]:
    """Rotate every token by its angle towards the positive side. Tokens that span no plane with w are returned as they are."""
    return turning(w, formula)(x, angle)


def turning(
    w: Float[Tensor, " d_model"], formula: Formula = "closed_form"
) -> Callable[[Float[Tensor, "token d_model"], Float[Tensor, " token"]], Float[Tensor, "token d_model"]]:
    """`rotated_in_plane` with what does not depend on the tokens formed once; `official` forms a (d_model, d_model) matrix."""
    u = w / w.norm()

    def closed(x: Tensor, angle: Tensor) -> Tensor:
        c, s = x @ u, x.norm(dim=-1)
        v = u - (c / s.square().clamp_min(torch.finfo(x.dtype).tiny))[:, None] * x
        length = v.norm(dim=-1)
        e = v / length.clamp_min(_DEGENERATE)[:, None]
        out = torch.cos(angle)[:, None] * x + (s * torch.sin(angle))[:, None] * e
        return torch.where(((s > 0) & (length >= _DEGENERATE))[:, None], out, x)

    def summed(x: Tensor, angle: Tensor, mirrored: Tensor, turn: Tensor) -> Tensor:
        sine = torch.sin(turn)
        out = (torch.sin(angle) / sine)[:, None] * mirrored + (torch.sin(turn - angle) / sine)[:, None] * x
        return torch.where(torch.isfinite(out).all(-1, keepdim=True), out, x)

    if formula == "closed_form":
        return closed
    if formula == "arcsin":
        return lambda x, angle: summed(x, angle, x - 2 * (x @ u)[:, None] * u, mirror_angle(x, w))
    mirror = torch.eye(len(w), dtype=w.dtype, device=w.device) - 2 * torch.outer(w, w) / w.norm() ** 2

    def official(x: Tensor, angle: Tensor) -> Tensor:
        mirrored = x @ mirror
        return summed(x, angle, mirrored, clamped_angle(x, mirrored))

    return official


def is_gated(z: Float[Tensor, "... d_model"], w: Float[Tensor, " d_model"], formula: Formula = "closed_form") -> Bool[Tensor, "..."]:
    """Whether a token is on the negative side: w·z ≤ 0; official: its probability, rounded half to even, is 0."""
    if formula == "official":
        return torch.nn.functional.linear(z, w[None])[..., 0].sigmoid().round() == 0
    return (z @ w) <= 0


def pseudo_rotation(
    w: Float[Tensor, " d_model"],
    angle: Callable[[Float[Tensor, "token d_model"]], Float[Tensor, " token"]],
    dose: float = 1.0,
    *,
    clamp: bool = True,
    formula: Formula = "closed_form",
) -> Callable[[Activations], Activations]:
    """The edit of one layer: tokens on the positive side are returned bit-identical, the others rotated by dose · angle(x).

    Only gated tokens are computed at all, so a token's zeros or NaN never reach another, and ordinary text costs one product. Official
    computes every token, since a product's last bits depend on how many rows it has.
    """
    if formula == "official":
        return pseudo_rotation_everywhere(w, angle, dose, clamp=clamp, formula=formula)
    # The gate is w·x in float32; the sign does not depend on the length of w.
    parts = {dtype: w.to(dtype) for dtype in (torch.float32, torch.float64)}
    turns = {dtype: turning(part, formula) for dtype, part in parts.items()}

    def edited(x: Activations) -> Activations:
        z = x if x.dtype == torch.float64 else x.float()
        gated = is_gated(z, parts[z.dtype])
        if not gated.any():
            return x
        mine = z[gated] if (some := not gated.all()) else z.flatten(0, -2)
        turn = dose * angle(mine)
        moved = turns[z.dtype](mine, turn.clamp(0.0, math.pi) if clamp else turn)
        if not some:
            return moved.view_as(x).type_as(x)
        out = x.clone()
        out[gated] = moved.type_as(x)
        return out

    return edited


def pseudo_rotation_everywhere(
    w: Float[Tensor, " d_model"],
    angle: Callable[[Float[Tensor, "token d_model"]], Float[Tensor, " token"]],
    dose: float = 1.0,
    *,
    clamp: bool = True,
    formula: Formula = "closed_form",
) -> Callable[[Activations], Activations]:
    """As `pseudo_rotation`, computing every token and then choosing: its shapes do not depend on the data, so it can be recorded."""
    parts = {dtype: w.to(dtype) for dtype in (torch.float32, torch.float64)}
    turns = {dtype: turning(part, formula) for dtype, part in parts.items()}

    def edited(x: Activations) -> Activations:
        z = x if x.dtype == torch.float64 else x.float()
        flat = z.reshape(-1, z.shape[-1])
        turn = dose * angle(flat)
        moved = turns[z.dtype](flat, turn.clamp(0.0, math.pi) if clamp else turn).reshape(z.shape)
        return torch.where(is_gated(z, parts[z.dtype], formula)[..., None], moved.type_as(x), x)

    return edited
