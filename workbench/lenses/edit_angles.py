"""Do two edits move the model in the same directions? Principal angles between what each adds to the residual stream, layer by layer.

Law: Δ_e = h_e − h over the tokens of some texts at a layer's output; V_e spans the leading directions of Δ_e that hold a share `keep` of
its squares; cosines are the singular values of V_1ᵀ V_2. The reference is two random subspaces of equal dimensions. Any two edits can be
compared so, whatever they change; at a layer above the edited one, Δ holds what the network made of the edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import lane_label
from workbench.models.base import LanguageModel
from workbench.numerics.spectra import principal_cosines
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Float, Tensor
from workbench.sites import Site

_N_RANDOM = 20
# A layer that moves by less than this share of its length is not edited; its directions would be rounding.
_STILL = 1e-6


@dataclass(frozen=True)
class EditAngles:
    """Cosines per layer, descending, and those of random subspaces; empty where one edit leaves the layer as it is.

    `ranks` are the dimensions of both; `sizes` the mean ‖Δ‖ / ‖h‖ over tokens.
    """

    model: str
    edits: tuple[str, str]
    layers: tuple[int, ...]
    cosines: tuple[Float[np.ndarray, " _r"], ...]
    random: tuple[Float[np.ndarray, " _r"], ...]
    ranks: tuple[tuple[int, int], ...]
    sizes: Float[np.ndarray, "edit layer"]
    keep: float
    n_tokens: int

    def rows(self) -> list[dict[str, Any]]:
        """One table row a layer."""
        return [
            {
                "layer": layer,
                "largest cosine": float(cosines[0]) if len(cosines) else None,
                "random, largest cosine": float(random[0]) if len(random) else None,
                "directions of the first": ranks[0],
                "directions of the second": ranks[1],
                "size of the first": float(self.sizes[0, i]),
                "size of the second": float(self.sizes[1, i]),
            }
            for i, (layer, cosines, random, ranks) in enumerate(zip(self.layers, self.cosines, self.random, self.ranks))
        ]


def edit_angles(
    model: LanguageModel,
    texts: Sequence[str],
    one: Sequence[Edit],
    other: Sequence[Edit],
    *,
    keep: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> EditAngles:
    """Compare what two stacks of edits add to the residual stream over all tokens of some texts.

    Raises: as `engine.applied` and `record.gather`.
    """
    tell = progress or silent()
    layers = tuple(range(model.info.n_layers))
    sites = [Site("resid_post", layer) for layer in layers]
    batch = model.tokens(list(texts))
    found: list[dict[Site, Tensor]] = []
    for i, stack in enumerate(((), one, other)):
        with applied(model, *stack):
            found.append(gather(model, batch, sites, "all", progress=tell.part(0.3 * i, 0.3 * (i + 1))))
    draw = torch.Generator().manual_seed(seed)
    parts = [_compared(*(run[site].double().cpu() for run in found), keep=keep, draw=draw) for site in sites]
    tell(1.0, "Done")
    return EditAngles(
        model.info.name,
        (lane_label(one), lane_label(other)),
        layers,
        tuple(cosines for cosines, *_ in parts),
        tuple(random for _, random, *_ in parts),
        tuple(ranks for *_, ranks, _ in parts),
        np.array([sizes for *_, sizes in parts]).T,
        keep,
        len(found[0][sites[0]]),
    )


def _compared(
    base: Tensor, one: Tensor, other: Tensor, *, keep: float, draw: torch.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[int, int], tuple[float, float]]:
    length = base.norm(dim=-1).clamp_min(1e-12)
    changes = [one - base, other - base]
    sizes = [float((change.norm(dim=-1) / length).mean()) for change in changes]
    spans = [_span(change, keep) if size > _STILL else base.new_zeros(base.shape[1], 0) for change, size in zip(changes, sizes)]
    ranks = (spans[0].shape[1], spans[1].shape[1])
    cosines = principal_cosines(spans[0], spans[1]).numpy()
    random = np.zeros(0)
    if all(ranks):
        found = [principal_cosines(*(_drawn(base.shape[1], k, draw) for k in ranks)).numpy() for _ in range(_N_RANDOM)]
        random = np.mean(found, axis=0)
    return cosines, random, ranks, (sizes[0], sizes[1])


def _span(change: Float[Tensor, "row d_model"], keep: float) -> Float[Tensor, "d_model k"]:
    _, values, v = torch.linalg.svd(change, full_matrices=False)
    shares = values.square().cumsum(0) / values.square().sum()
    k = int((shares < keep - 1e-12).sum()) + 1
    return v[:k].T


def _drawn(d: int, k: int, draw: torch.Generator) -> Float[Tensor, "d_model k"]:
    return torch.linalg.qr(torch.randn(d, k, generator=draw, dtype=torch.float64))[0]
