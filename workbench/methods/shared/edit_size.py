"""How much an activation edit moves the activations of given texts, measured in one edited run.

Works for any edit: the activation is read just before and just after the edit acts, so that at later layers the stream is the edited one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch
from workbench.record import activations
from workbench.shapes import Activations, Float, Rows2d, Tensor
from workbench.sites import Site

# Below this mean share of their length, moved activations are as good as unmoved.
NEAR_IDENTITY = 1e-3


@dataclass(frozen=True)
class EditSize:
    """‖Δ‖/‖h‖ and cos(h', h) over all real tokens of some texts, the share left bit-equal, and the last tokens before and after."""

    sizes: Float[Tensor, " token"]
    cosines: Float[Tensor, " token"]
    unchanged_share: float
    before_last: Rows2d
    after_last: Rows2d

    @property
    def mean(self) -> float:
        """Mean of ‖Δ‖/‖h‖."""
        return float(self.sizes.mean())

    @property
    def upper_95(self) -> float:
        """95th percentile."""
        return float(self.sizes.quantile(0.95))

    @property
    def cosine(self) -> float:
        """Mean of cos(h', h)."""
        return float(self.cosines.mean())


def measured_sizes(
    model: LanguageModel, edit: Edit, texts: TokenBatch, sites: Sequence[Site], *, batch_size: int = 32
) -> dict[Site, EditSize]:
    """Run texts under the edit and measure what it does at each site."""
    parts: dict[Site, list[tuple[Tensor, Tensor, Tensor]]] = {site: [] for site in sites}
    for start in range(0, len(texts), batch_size):
        part = texts.rows(slice(start, start + batch_size))
        before, after = _before_and_after(model, edit, part, sites)
        for site in sites:
            parts[site].append((before[site].double().cpu(), after[site].double().cpu(), part.mask.cpu()))
    return {site: _size(found) for site, found in parts.items()}


def _before_and_after(
    model: LanguageModel, edit: Edit, part: TokenBatch, sites: Sequence[Site]
) -> tuple[dict[Site, Activations], dict[Site, Activations]]:
    before: dict[Site, Activations] = {}

    def keeper(site: Site) -> ReadWrite:
        def keep(x: Activations) -> None:
            before[site] = x

        return keep

    with torch.no_grad(), ExitStack() as stack:  # the outer context acts first: it sees what the edit sees
        stack.enter_context(model.intercepts([(site, keeper(site)) for site in sites]))
        stack.enter_context(applied(model, edit))
        return before, activations(model, part, sites)


def _size(found: list[tuple[Tensor, Tensor, Tensor]]) -> EditSize:
    x = torch.cat([before[mask] for before, _, mask in found])
    y = torch.cat([after[mask] for _, after, mask in found])
    tiny = torch.finfo(torch.float64).tiny
    sizes = (y - x).norm(dim=1) / x.norm(dim=1).clamp_min(tiny)
    cosines = torch.nn.functional.cosine_similarity(x, y, dim=1)
    unchanged = float((y == x).all(1).double().mean())
    return EditSize(sizes, cosines, unchanged, torch.cat([b[:, -1] for b, _, _ in found]), torch.cat([a[:, -1] for _, a, _ in found]))
