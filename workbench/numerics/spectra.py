"""Singular spectra of cross-covariances through thin factors: no d×d matrix is formed from n ≤ d rows.

Ref: docs/methods/sea.md §3.3. With rows as columns H (d, n): Ω = (1/n) H (H')ᵀ = U S Vᵀ. Thin QR of both sides, H = Q R and H' = Q' R',
gives Ω = Q [(1/n) R R'ᵀ] Q'ᵀ, so the SVD of the small core C (n, n) holds S, and U = Q U_core.
U_core are the eigenvectors of C Cᵀ, in half the time of an SVD. Squaring blurs what is small: values below `BLURRED` s_1 come from an SVD
of the rows of U_coreᵀ C that hold them, and where the gap behind the k-th value is too narrow for `SETTLED`, `leading(k)` takes the SVD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from workbench.shapes import Float, Tensor

# A share that is reached up to rounding counts as reached, so that keep = 1 gives the whole rank.
SHARE_TOLERANCE = 1e-12
# Below this share of s_1, eigenvectors of C Cᵀ say little about the singular vectors of C.
BLURRED = 1e-5
# Largest error, to first order, of a projector from eigenvectors: rounding of C Cᵀ over the gap that sets its leading space apart.
SETTLED = 2e-9


@final
@dataclass(frozen=True)
class Reflectors:
    """Q of a QR decomposition, kept as Householder reflectors: a few columns need it, and forming it costs as much as finding it."""

    factors: Float[Tensor, "d_model m"]
    tau: Float[Tensor, " r"]

    @property
    def d_model(self) -> int:
        """Rows of Q."""
        return self.factors.shape[0]

    def __matmul__(self, inner: Float[Tensor, "m k"]) -> Float[Tensor, "d_model k"]:
        padded = inner.new_zeros(self.d_model, inner.shape[1])
        padded[: inner.shape[0]] = inner
        return torch.ormqr(self.factors, self.tau, padded)


@final
@dataclass(frozen=True)
class Spectrum:
    """Singular values of Ω, descending, and its left singular vectors as a product that is formed for the leading few only."""

    values: Float[Tensor, " m"]
    n_rows: int
    outer: Reflectors | None
    inner: Float[Tensor, "m m"]
    core: Float[Tensor, "m m"] | None = None

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return self.inner.shape[0] if self.outer is None else self.outer.d_model

    @property
    def rank(self) -> int:
        """Number of values above s_1 · max(d, n) · eps of float64."""
        if self.values.numel() == 0 or float(self.values[0]) == 0.0:
            return 0
        floor = self.values[0] * max(self.d_model, self.n_rows) * torch.finfo(torch.float64).eps
        return int((self.values > floor).sum())

    @property
    def shares(self) -> Float[Tensor, " m"]:
        """e_i = s_i² / Σ s_j²; zeros if Ω = 0."""
        squared = self.values.square()
        return squared / squared.sum().clamp_min(torch.finfo(torch.float64).tiny)

    @property
    def cumulative(self) -> Float[Tensor, " m"]:
        """c_k = e_1 + … + e_k."""
        return self.shares.cumsum(0)

    def kept(self, keep: float) -> int:
        """k(K) = min{k : c_k ≥ K}, from 1 up to the rank; 0 only if Ω = 0."""
        if self.rank == 0 or keep >= 1.0:
            return self.rank
        enough = torch.nonzero(self.cumulative >= keep - SHARE_TOLERANCE)
        first = int(enough[0]) + 1 if len(enough) else self.rank
        return max(1, min(first, self.rank))

    def leading(self, k: int) -> Float[Tensor, "d_model k"]:
        """The k leading left singular vectors, orthonormal."""
        inner = self.inner if self.core is None or self._is_settled(k) else torch.linalg.svd(self.core)[0]
        return inner[:, :k] if self.outer is None else self.outer @ inner[:, :k]

    def outside(self, kept: Float[Tensor, "d_model k"], count: int) -> Float[Tensor, "d_model j"]:
        """The leading `count` left singular vectors of (I − A Aᵀ) Ω, A the orthonormal `kept`: what Ω has beyond the kept space.

        Fewer where there are fewer directions outside. Ω = U S Vᵀ and V is orthonormal, so those of (I − A Aᵀ) U S are the same.
        """
        scaled = self.leading(self.rank) * self.values[: self.rank]
        left, values, _ = torch.linalg.svd(scaled - kept @ (kept.T @ scaled), full_matrices=False)
        floor = float(self.values[0]) * 1e-9
        return left[:, : min(count, int((values > floor).sum()))]

    def _is_settled(self, k: int) -> bool:
        if not 0 < k < len(self.values):
            return True  # nothing, or the whole space
        gap = float(self.values[k - 1].square() - self.values[k].square())
        return torch.finfo(torch.float64).eps * float(self.values[0].square()) <= SETTLED * gap


def spectra_of_rows(base: Float[Tensor, "row d_model"], others: Mapping[str, Float[Tensor, "row d_model"]]) -> dict[str, Spectrum]:
    """Spectra of (1/n) Σ base_i other_iᵀ from paired rows, in float64; the base is factored once.

    Cost O(d n²) for n ≤ d rows; more rows belong into `spectrum_of_matrix`.
    """
    factors, tau = torch.geqrf(base.double().T)
    r = factors[: len(tau)].triu()
    found: dict[str, Spectrum] = {}
    for name, other in others.items():
        _, r_other = torch.linalg.qr(other.double().T, mode="r")
        core = r @ r_other.T / base.shape[0]
        inner, values = left_singular(core)
        found[name] = Spectrum(values, base.shape[0], Reflectors(factors, tau), inner, core)
    return found


def left_singular(core: Float[Tensor, "m m"]) -> tuple[Float[Tensor, "m m"], Float[Tensor, " m"]]:
    """Left singular vectors and values, descending, by the eigenvectors of C Cᵀ and an SVD of what these blur."""
    inner = torch.linalg.eigh(core @ core.T)[1].flip(1)
    rows = inner.T @ core
    values = rows.norm(dim=1)
    blurred = values <= BLURRED * values[:1]
    if bool(blurred.any()):
        turn, small, _ = torch.linalg.svd(rows[blurred], full_matrices=False)
        inner[:, blurred], values[blurred] = inner[:, blurred] @ turn, small
    order = values.argsort(descending=True)
    return inner[:, order], values[order]


def spectrum_of_matrix(omega: Float[Tensor, "d_model d_model"], n_rows: int) -> Spectrum:
    """Spectrum of a cross-covariance that is already formed (n > d)."""
    u, values, _ = torch.linalg.svd(omega.double())
    return Spectrum(values, n_rows, None, u)


def principal_cosines(a: Float[Tensor, "d_model k"], b: Float[Tensor, "d_model m"]) -> Float[Tensor, " r"]:
    """Cosines of the principal angles between the spans of two orthonormal bases, descending."""
    if a.shape[1] == 0 or b.shape[1] == 0:
        return torch.zeros(0, dtype=torch.float64)
    return torch.linalg.svdvals(a.double().T @ b.double()).clamp(0.0, 1.0)


def without(a: Float[Tensor, "d_model k"], b: Float[Tensor, "d_model m"]) -> Float[Tensor, "d_model k"]:
    """Directions of span(a), the ones furthest from span(b) first, each projected off span(b) and normalised.

    Those that lie in span(b) up to rounding come out as zero.
    """
    rest = a.double() - b.double() @ (b.double().T @ a.double())
    u, s, _ = torch.linalg.svd(rest, full_matrices=False)
    return torch.where(s > 1e-8, u, torch.zeros_like(u))


def noise_values(rank: int, squares: float) -> Float[np.ndarray, " rank"]:
    """Singular values of a square random matrix, descending: of a rank, and with a sum of squares.

    Quantiles of the quarter-circle law, F(x) = (x √(4 − x²) / 2 + 2 arcsin(x / 2)) / π on [0, 2]. Ref: Marchenko and Pastur 1967, the
    square case.
    """
    if rank == 0:
        return np.zeros(0)
    x = np.linspace(0.0, 2.0, 4097)
    law = (x * np.sqrt(4 - x**2) / 2 + 2 * np.arcsin(x / 2)) / np.pi
    values = np.interp(1 - (np.arange(rank) + 0.5) / rank, law, x)
    return values * np.sqrt(squares / np.square(values).sum())
