"""Moments without each of their rows in turn: sums less one row, so that no row is read again.

Ref: docs/methods/shared.md §9.8. A mean without row i is (n m − x_i) / (n − 1). A cross-covariance Ω = (1/n) Σ (x_j − a)(y_j − b)ᵀ without
row i is Σ less x_i y_iᵀ, a downdate of rank one, centred anew. All is done in the coordinates of the rows' own span, whose width is the
number of rows at most, so no d×d matrix is formed from few rows of many dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self, final

import torch

from workbench.numerics.spectra import Spectrum, left_singular
from workbench.shapes import Float, Rows2d, Tensor


def mean_without(rows: Rows2d, gone: Collection[int]) -> Float[Tensor, " d_model"]:
    """The mean of the rows but for some; NaN if none is left."""
    x = rows.double()
    return (x.sum(0) - x[list(gone)].sum(0)) / (len(x) - len(gone))


@final
@dataclass(frozen=True)
class Span:
    """An orthonormal basis of some rows, and what becomes of vectors in it."""

    basis: Float[Tensor, "d_model m"]

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> Self:
        """The span of all rows together."""
        return cls(torch.linalg.qr(torch.cat(list(parts)).double().T)[0])

    def within(self, rows: Rows2d) -> Float[Tensor, "row m"]:
        """Coordinates of rows."""
        return rows.double() @ self.basis


@final
@dataclass(frozen=True)
class Paired:
    """Sums of paired rows: Σ x yᵀ, Σ x and Σ y."""

    cross: Float[Tensor, "m m"]
    left: Float[Tensor, " m"]
    right: Float[Tensor, " m"]
    n_rows: int

    @classmethod
    def of(cls, x: Float[Tensor, "row m"], y: Float[Tensor, "row m"]) -> Self:
        """The sums over all rows."""
        return cls(x.T @ y, x.sum(0), y.sum(0), len(x))

    def without(self, x: Float[Tensor, "gone m"], y: Float[Tensor, "gone m"]) -> Paired:
        """The sums without some rows."""
        return Paired(self.cross - x.T @ y, self.left - x.sum(0), self.right - y.sum(0), self.n_rows - len(x))

    def spectrum(self, a: Float[Tensor, " m"], b: Float[Tensor, " m"]) -> Spectrum:
        """Spectrum of (1/n) Σ (x − a)(y − b)ᵀ, in the coordinates of the sums."""
        m, m_other = self.left / self.n_rows, self.right / self.n_rows
        omega = self.cross / self.n_rows - torch.outer(m, b) - torch.outer(a, m_other) + torch.outer(a, b)
        inner, values = left_singular(omega)
        return Spectrum(values, self.n_rows, None, inner, omega)
