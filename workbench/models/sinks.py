"""Massive activations: tokens whose residual stream is far longer than the others', and which carry the attention sink.

In a network of some depth the first token, sometimes a full stop or a line end, is written to a norm a hundred times that of the others,
along one or two fixed dimensions; every later token attends to it when it has nothing to look for. Moving it changes what all of them
read. An edit leaves tokens beyond a norm bound alone; the bound is found once, from the largest ordinary and the smallest massive norm,
so that it does not hang on the batch that is being edited and cached and full forwards agree.

Ref: arXiv 2402.17762 (massive activations), 2309.17453 (attention sinks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch
from workbench.operations import wide
from workbench.shapes import Float, Tensor
from workbench.sites import Site

MASSIVE = 8.0
"""A token is massive where its norm is above so many medians."""
GAP = 2.0
"""Smallest ratio between the least massive and the largest ordinary norm: without a gap there is nothing to tell apart."""


def norm_bound(norms: Float[Tensor, " token"]) -> float | None:
    """The norm beyond which tokens are massive at one site: halfway, in ratio, between both kinds; None where there is only one.

    Args:
        norms: of all real tokens seen at the site, those of sinks among them.
    """
    found = norms.double()
    if found.numel() < 2:
        return None
    limit = MASSIVE * found.median()
    ordinary, massive = found[found <= limit], found[found > limit]
    if not massive.numel() or not ordinary.numel() or massive.min() < GAP * ordinary.max():
        return None
    return float((ordinary.max() * massive.min()).sqrt())


@torch.no_grad()
def norm_bounds(model: LanguageModel, batch: TokenBatch, sites: Sequence[Site], *, batch_size: int = 16) -> Mapping[Site, float]:
    """The norm bound at each site that has massive tokens on a batch; sites without are left out.

    Raises:
        UnknownSite: the model has no such site.
    """
    norms: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(batch), batch_size):
        part = batch.rows(slice(start, start + batch_size)).trimmed()
        for site, x in _read(model, part, sites).items():
            norms[site].append(torch.linalg.vector_norm(x, dim=-1)[part.mask].cpu())
    bounds = {site: norm_bound(torch.cat(found)) for site, found in norms.items()}
    return MappingProxyType({site: bound for site, bound in bounds.items() if bound is not None})


@dataclass(frozen=True)
class LayerNorms:
    """Norms of the residual stream behind one block: median and largest, and the bound if some tokens are massive."""

    layer: int
    median: float
    largest: float
    bound: float | None
    dimensions: tuple[int, ...]
    """The dimensions that make up a massive token's norm, the largest first; empty where none is massive."""


@dataclass(frozen=True)
class Sinks:
    """What one forward over a few texts showed. `tokens` are the massive ones: text, position, and how often of how many texts."""

    layers: tuple[LayerNorms, ...]
    tokens: tuple[tuple[str, int, int], ...]
    n_texts: int

    @property
    def bounds(self) -> dict[int, float]:
        """Layer → norm bound behind it, where there are massive tokens."""
        return {item.layer: item.bound for item in self.layers if item.bound is not None}

    @property
    def says(self) -> str:
        """One sentence for a person who does not know the word."""
        if not self.bounds:
            return "No token stands out: every one may be edited like the others."
        worst = max((item for item in self.layers if item.bound is not None), key=lambda item: item.largest / item.median)
        named = ", ".join(dict.fromkeys(f"{text!r} at position {position}" for text, position, _ in self.tokens[:3]))
        return (
            f"At layer {worst.layer} a few tokens ({named}) are {worst.largest / worst.median:.0f} times as long as the others. "
            "The rest of the text leans on them, so edits leave them alone unless asked."
        )


@torch.no_grad()
def sinks(model: LanguageModel, texts: Sequence[str]) -> Sinks:
    """Look for massive activations in one forward over a few texts.

    Raises:
        BadPrompt: a text is empty or too long.
    """
    batch = model.tokens(list(texts))
    sites = [site for site in model.sites() if site.kind == "resid_post"]
    layers: list[LayerNorms] = []
    seen: dict[tuple[str, int], set[int]] = {}
    for site, x in _read(model, batch, sites).items():
        norms = torch.linalg.vector_norm(x, dim=-1)
        real = norms[batch.mask]
        bound = norm_bound(real)
        dimensions: tuple[int, ...] = ()
        if bound is not None:
            massive = (norms > bound) & batch.mask
            squares = x[massive].square().mean(0)
            dimensions = _leading(squares)
            for row, column in massive.nonzero().tolist():
                text = token_texts(model.tokenizer, batch.ids[row, column : column + 1])[0]
                seen.setdefault((text, int(batch.positions[row, column])), set()).add(row)
        layers.append(LayerNorms(site.layer or 0, float(real.median()), float(real.max()), bound, dimensions))
    counted = sorted(((text, position, len(rows)) for (text, position), rows in seen.items()), key=lambda item: (-item[2], item[1]))
    return Sinks(tuple(layers), tuple(counted), len(batch))


def _read(model: LanguageModel, batch: TokenBatch, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "batch pos width"]]:
    seen: dict[Site, Tensor] = {}

    def reader(site: Site) -> ReadWrite:
        def keep(x: Tensor) -> None:
            seen[site] = wide(x)

        return keep

    with model.intercepts([(site, reader(site)) for site in sites]):
        model.step(batch, model.new_cache(), 0)
    return seen


def _leading(squares: Float[Tensor, " d_model"], share: float = 0.5, most: int = 4) -> tuple[int, ...]:
    """The few dimensions that hold `share` of the squares; none if it takes more than `most`."""
    ordered, index = squares.sort(descending=True)
    needed = int((ordered.cumsum(0) < share * ordered.sum()).sum()) + 1
    return tuple(index[:needed].tolist()) if needed <= most else ()
