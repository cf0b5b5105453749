"""Streaming first and second moments of paired activations: rows while n ≤ d, a d×d matrix a side once n > d.

Memory: at most (1 + sides) · d² floats, however many demonstrations. Streaming equals whole-batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch

from workbench.errors import NotFinite, ShapeMismatch
from workbench.numerics.spectra import Spectrum, spectra_of_rows, spectrum_of_matrix
from workbench.shapes import Float, Rows2d, Tensor

Centre = Literal["none", "demonstrations", "grand"]


@final
@dataclass
class CrossMoments:
    """Moments of base rows against each side (`positive`, `negative`, …), one site.

    Sums are kept of rows minus the first batch's mean: a mean far from zero would otherwise cost digits when it is subtracted squared.
    """

    sides: Sequence[str]
    n_rows: int = 0
    _blocks: dict[str, list[Tensor]] = field(default_factory=dict)
    _shift: dict[str, Tensor] = field(default_factory=dict)
    _sum: dict[str, Tensor] = field(default_factory=dict)
    _cross: dict[str, Tensor] = field(default_factory=dict)

    def add(self, base: Rows2d, others: Mapping[str, Rows2d]) -> None:
        """Add a batch of paired rows; row i of every matrix belongs to the same demonstration.

        Raises:
            ShapeMismatch: the sides have different numbers of rows. NotFinite: NaN or infinite activations.
        """
        rows = {"base": base.detach().to("cpu", torch.float64)}
        rows |= {side: others[side].detach().to("cpu", torch.float64) for side in self.sides}
        for side, x in rows.items():
            if x.shape != rows["base"].shape:
                raise ShapeMismatch(f"The {side} rows have shape {tuple(x.shape)}, base rows {tuple(base.shape)}.", "Pair them.")
            if not torch.isfinite(x).all():
                raise NotFinite(f"The {side} activations hold NaN or infinite values.", "Load the model in float32.")
        if not self._shift:
            self._shift = {side: x.mean(0) for side, x in rows.items()}
            self._sum = {side: torch.zeros(x.shape[1], dtype=torch.float64) for side, x in rows.items()}
        for side, x in rows.items():
            shifted = x - self._shift[side]
            self._sum[side] += shifted.sum(0)
            self._blocks.setdefault(side, []).append(shifted)
        self.n_rows += base.shape[0]
        if self._cross or self.n_rows > base.shape[1]:
            self._fold()

    def _fold(self) -> None:
        base = torch.cat(self._blocks.pop("base"))
        for side in self.sides:
            other = torch.cat(self._blocks.pop(side))
            self._cross[side] = self._cross.get(side, torch.zeros(1, dtype=torch.float64)) + base.T @ other

    @property
    def is_matrix(self) -> bool:
        """Whether there were more rows than dimensions, so that d×d sums are kept instead of rows."""
        return bool(self._cross)

    def mean(self, side: str = "base") -> Float[Tensor, " d_model"]:
        """Mean row of a side."""
        return self._shift[side] + self._sum[side] / self.n_rows

    def centre(self, side: str, how: Centre) -> Float[Tensor, " d_model"]:
        """What is subtracted from this side: nothing, its own mean, or the one mean over all sides."""
        if how == "none":
            return torch.zeros_like(self._shift[side])
        if how == "demonstrations":
            return self.mean(side)
        return torch.stack([self.mean(name) for name in ("base", *self.sides)]).mean(0)

    def spectra(self, how: Centre = "none") -> dict[str, Spectrum]:
        """Spectrum of Ω = (1/n) Σ (base_i − a)(side_i − b)ᵀ of each side, with the centres a, b of `how`."""
        if self.is_matrix:
            return {side: spectrum_of_matrix(self.matrix(side, how), self.n_rows) for side in self.sides}
        return spectra_of_rows(self._rows("base", how), {side: self._rows(side, how) for side in self.sides})

    def matrix(self, side: str, how: Centre = "none") -> Float[Tensor, "d_model d_model"]:
        """Ω itself, d×d; for n ≤ d use `spectra`, which never forms it."""
        if not self.is_matrix:
            return self._rows("base", how).T @ self._rows(side, how) / self.n_rows
        a, b = self.centre("base", how) - self._shift["base"], self.centre(side, how) - self._shift[side]
        m, m_side = self._sum["base"] / self.n_rows, self._sum[side] / self.n_rows
        return self._cross[side] / self.n_rows - torch.outer(m, b) - torch.outer(a, m_side) + torch.outer(a, b)

    def mean_share(self, side: str, n_steps: int = 30) -> float:
        """Share of s_1 of the uncentred Ω that the outer product of the means explains: (u₁·m)(v₁·m') / s_1.

        Near 1, the leading direction is the mean activation, and an uncentred edit keeps and drops the same thing.
        """
        m, m_side = self.mean("base"), self.mean(side)
        if float(m.norm()) == 0.0:
            return 0.0
        left, right = (torch.eye(1), self.matrix(side)) if self.is_matrix else (self._rows("base", "none"), self._rows(side, "none"))
        tiny = torch.finfo(torch.float64).tiny
        u, v, s = m / m.norm(), m_side, m.norm()
        for _ in range(n_steps):  # power iteration: the leading pair only, O(n d) a step
            v = right.T @ u if self.is_matrix else right.T @ (left @ u) / self.n_rows
            v = v / v.norm().clamp_min(tiny)
            u = right @ v if self.is_matrix else left.T @ (right @ v) / self.n_rows
            s = u.norm()
            u = u / s.clamp_min(tiny)
        return 0.0 if float(s) == 0.0 else float((u @ m) * (v @ m_side) / s)

    def _rows(self, side: str, how: Centre) -> Rows2d:
        return torch.cat(self._blocks[side]) + (self._shift[side] - self.centre(side, how))


@final
@dataclass(frozen=True)
class SideMoments:
    """Moments of each side against itself, from rows without pairs: Ω = (1/n) Σ (x_i − a)(x_i − a)ᵀ, one site.

    What `CrossMoments` calls the base is here the mean of both sides.
    """

    rows: Mapping[str, Rows2d]

    @property
    def n_rows(self) -> int:
        """Rows of the smaller side."""
        return min(len(x) for x in self.rows.values())

    def mean(self, side: str = "base") -> Float[Tensor, " d_model"]:
        """Mean row of a side, or of both sides' means."""
        return torch.stack([self.mean(name) for name in self.rows]).mean(0) if side == "base" else self.rows[side].double().mean(0)

    def centre(self, side: str, how: Centre) -> Float[Tensor, " d_model"]:
        """What is subtracted from this side: nothing, its own mean, or the one mean over both."""
        mean = self.mean(side if how == "demonstrations" else "base")
        return torch.zeros_like(mean) if how == "none" else mean

    def spectra(self, how: Centre = "none") -> dict[str, Spectrum]:
        """Spectrum of Ω of each side."""
        return {side: self._of(side, how).spectra()[side] for side in self.rows}

    def mean_share(self, side: str) -> float:
        """As `CrossMoments.mean_share`."""
        return self._of(side, "none").mean_share(side)

    def _of(self, side: str, how: Centre) -> CrossMoments:
        found, x = CrossMoments((side,)), self.rows[side].double() - self.centre(side, how)
        found.add(x, {side: x})
        return found
