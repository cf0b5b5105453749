"""The law of a spectral edit at one site: keep some directions, drop others, restore the norm.

Ref: docs/methods/sea.md §2.2, §2.5. With y = z − μ, z₊ = A Aᵀ y, z₋ = y − B Bᵀ y, merged to m, the edit at dose λ is
μ + r ν(y)/ν(r) with r = y + λ (m − y). For `sum`, m − y = A Aᵀ y − B Bᵀ y, exact; directions that are kept and dropped cancel.
Always through thin factors: 4 d (k₊ + k₋) operations a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch

from workbench.numerics.feature_maps import Phi, SquaredExponentialInverse, mapped, unmapped
from workbench.shapes import Activations, Bool, Float, Tensor

Norm = Literal["token", "feature", "none"]
Merge = Literal["sum", "average", "positive", "negative"]
PhiMode = Literal["intended", "skip_input"]

# A merged vector shorter than this share of the activation has no direction worth restoring a norm to.
_DEGENERATE = 1e-6


@final
@dataclass(frozen=True)
class SpectralLaw:
    """Orthonormal columns to keep and to drop, a centre (None for 0), and how the two branches are put together.

    norm=token keeps every token's ‖z − μ‖; norm=feature every feature's norm over the tokens of the call (not causal: the released code's).
    """

    keep: Float[Tensor, "d_model k"]
    drop: Float[Tensor, "d_model m"]
    centre: Float[Tensor, " d_model"] | None = None
    norm: Norm = "token"
    merge: Merge = "sum"
    phi: Phi = "none"
    phi_mode: PhiMode = "intended"
    inverse: SquaredExponentialInverse = "sqrt"
    restore_sign: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether the edit is an affine map of z, so that it may fold into weights."""
        return self.phi == "none" and (self.merge == "average" or self.norm == "none")

    @property
    def restores_norm(self) -> bool:
        """Whether the edited activation gets its old length back; averaging both branches does not."""
        return self.norm != "none" and self.merge != "average"

    def at_dose(self, dose: float) -> Callable[..., Activations]:
        """The function of one call's activations; with norm=feature it also takes the mask of real tokens."""
        if self.phi == "none" and self.restores_norm and self.norm == "token" and self.merge == "sum":
            return self._fast(dose)

        def edited(x: Activations, real: Bool[Tensor, "batch pos"] | None = None) -> Activations:
            z = x if x.dtype == torch.float64 else x.float()
            y = z if self.centre is None else z - self.centre.to(z.dtype)
            r = y + dose * (self.merged(y) - y)
            if not self.restores_norm:
                return (r if self.centre is None else r + self.centre.to(z.dtype)).type_as(x)
            return self._rescaled(z, y, r, real).type_as(x)

        return edited

    def merged(self, y: Activations) -> Activations:
        """m: the two branches put together, at dose 1, before any norm is restored."""
        kept, left = self._branches(y)
        if self.merge == "positive":
            return kept
        if self.merge == "negative":
            return left
        return (kept + left) / 2 if self.merge == "average" else kept + left

    def _branches(self, y: Activations) -> tuple[Activations, Activations]:
        a, b = self.keep.to(y.dtype), self.drop.to(y.dtype)
        f = mapped(y, self.phi) if self.phi_mode == "intended" else y
        kept, left = (f @ a) @ a.T, f - (f @ b) @ b.T
        if self.phi == "none":
            return kept, left
        kept, left = unmapped(kept, self.phi, self.inverse), unmapped(left, self.phi, self.inverse)
        if self.phi == "squared_exponential" and self.restore_sign:
            return kept * y.sign(), left * y.sign()
        return kept, left

    def _rescaled(self, z: Activations, y: Activations, r: Activations, real: Tensor | None) -> Activations:
        if self.norm == "feature":
            mask = torch.ones_like(z[..., :1]) if real is None else real[..., None].to(z.dtype)
            n_y, n_r = (y * mask).norm(dim=-2, keepdim=True), (r * mask).norm(dim=-2, keepdim=True)
        else:
            n_y, n_r = y.norm(dim=-1, keepdim=True), r.norm(dim=-1, keepdim=True)
        out = r * (n_y / n_r.clamp_min(torch.finfo(r.dtype).tiny))
        out = out if self.centre is None else out + self.centre.to(z.dtype)
        return torch.where(n_r > _DEGENERATE * n_y, out, z)

    def _fast(self, dose: float) -> Callable[..., Activations]:
        """The default law with what does not depend on z formed once: decoding runs it token by token."""
        signs = torch.cat([torch.ones(self.keep.shape[1]), -torch.ones(self.drop.shape[1])]).to(self.keep)
        down = torch.cat([self.keep, self.drop], 1)
        up = (down * (dose * signs)).T.contiguous()
        centre = self.centre
        wide = {torch.float64: (down.double(), up.double(), None if centre is None else centre.double())}
        wide[torch.float32] = (down.float(), up.float(), None if centre is None else centre.float())
        limit = torch.tensor(1 / _DEGENERATE)  # a number would be made a tensor at every token

        def edited(x: Activations) -> Activations:
            z = (x if x.dtype in wide else x.float()).flatten(0, -2)
            a, b, mu = wide[z.dtype]
            y = z if mu is None else z - mu
            r = torch.addmm(y, y @ a, b)
            ratio = torch.linalg.vector_norm(y, dim=-1, keepdim=True) / torch.linalg.vector_norm(r, dim=-1, keepdim=True)
            out = r * ratio if mu is None else torch.addcmul(mu, r, ratio)
            # y = 0 or r = 0 makes the ratio NaN or infinite: both comparisons are false, and z is returned.
            found = torch.where(ratio < limit, out, z).view_as(x)
            return found if found.dtype == x.dtype else found.to(x.dtype)

        return edited
