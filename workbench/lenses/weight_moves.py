"""Spectra of what an edit adds to weights: how large each delta is beside its matrix, and how many directions it takes, beside a random
matrix of its shape, rank and size.

Law: singular values σ of Δ; its effective rank is exp of the entropy of σ² / Σσ². The reference is a product of Gaussian factors of the
same rank (a Gaussian matrix where the delta is of full rank) scaled to the same Frobenius norm: what size and rank alone would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.edits.base import Edit
from workbench.edits.labels import edit_label
from workbench.models.base import LanguageModel
from workbench.operations import AddToWeight, LowRank, Rows, own_part
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

N_VALUES = 32


@dataclass(frozen=True)
class WeightMove:
    """One delta: σ and those of a random matrix of its rank and size, the strongest first; `size` is ‖Δ‖ / ‖W‖ (of rows, the rows that
    change), `rank` its effective rank, `random_rank` the random one's."""

    site: str
    shape: tuple[int, int]
    values: Float[np.ndarray, " _k"]
    random: Float[np.ndarray, " _k"]
    size: float
    rank: float
    random_rank: float


@dataclass(frozen=True)
class WeightMoves:
    """The deltas of an edit, site by site; empty for an edit of activations alone."""

    model: str
    edit: str
    moves: tuple[WeightMove, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a delta."""
        return [
            {
                "weight": one.site, "size, of the matrix": round(one.size, 5), "directions, about": round(one.rank, 2),
                "random of its size": round(one.random_rank, 2), "shape": " × ".join(map(str, one.shape)),
                "leading value": round(float(one.values[0]), 5),
            }
            for one in self.moves
        ]  # fmt: skip


@torch.no_grad()
def weight_moves(model: LanguageModel, edit: Edit, *, seed: int = 0, progress: Progress | None = None) -> WeightMoves:
    """Read the spectra of an edit's deltas, at its dose. Deltas of biases have no spectrum and are left out.

    Raises: as `LanguageModel.weight`.
    """
    tell, found = progress or silent(), list[WeightMove]()
    deltas = [op for op in edit.operations() if isinstance(op, AddToWeight)]
    draw = torch.Generator().manual_seed(seed)
    for i, op in enumerate(deltas):
        if isinstance(op.delta, Tensor) and op.delta.ndim != 2:
            continue
        found.append(_move(model, op, draw))
        tell((i + 1) / len(deltas), "Reading the spectra of weights")
    return WeightMoves(model.info.name, edit_label(edit), tuple(found))


def _move(model: LanguageModel, op: AddToWeight, draw: torch.Generator) -> WeightMove:
    slot, delta = model.weight(op.site), op.delta
    stored = own_part(slot.parameter.detach(), transposed=slot.is_transposed, columns=slot.columns)
    if isinstance(delta, Rows):
        old, shape = stored[delta.ids.to(stored.device)], tuple(delta.values.shape)
        values, rank = torch.linalg.svdvals(delta.values.double().cpu()), min(shape)
    elif isinstance(delta, LowRank):
        old, shape, rank = stored, delta.shape, delta.a.shape[0]
        values = delta.scale * _of_product(delta.b.double().cpu(), delta.a.double().cpu())
    else:
        old, shape, rank = stored, tuple(delta.shape), min(delta.shape)
        values = torch.linalg.svdvals(delta.double().cpu())
    random = _drawn(shape[0], shape[1], rank, draw)
    random = random * values.norm() / random.norm().clamp_min(1e-300)
    size = float(values.norm() / old.double().norm().clamp_min(1e-300))
    numbers = (size, _effective(values), _effective(random))
    return WeightMove(str(op.site), (shape[0], shape[1]), values[:N_VALUES].abs().numpy(), random[:N_VALUES].numpy(), *numbers)


def _of_product(b: Float[Tensor, "out rank"], a: Float[Tensor, "rank in"]) -> Float[Tensor, " rank"]:
    """The singular values of b a, which is never formed."""
    return torch.linalg.svdvals(torch.linalg.qr(b).R @ torch.linalg.qr(a.T).R.T)


def _drawn(n_out: int, n_in: int, rank: int, draw: torch.Generator) -> Float[Tensor, " k"]:
    def gauss(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    if rank < min(n_out, n_in):
        return _of_product(gauss(n_out, rank), gauss(rank, n_in))
    return torch.linalg.svdvals(gauss(n_out, n_in))


def _effective(values: Float[Tensor, " k"]) -> float:
    """exp of the entropy of the squares' shares: how many directions there are, as far as they count."""
    share = values.square() / values.square().sum().clamp_min(1e-300)
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))
