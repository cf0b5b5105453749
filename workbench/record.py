"""Run prompts and collect activations: streaming over batches, never further up the network than the highest site asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch

from workbench import memo
from workbench.errors import NotFinite
from workbench.models.base import LanguageModel
from workbench.models.hooks import is_quiet
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Activations, Bool, Rows2d, Tensor
from workbench.sites import Site
from workbench.sites import site as site_of

Positions = Literal["last", "all", "continuation"]


class _SeenAll(Exception):  # noqa: N818 - not an error: the forward has gone as far as needed
    pass


def activations(
    model: LanguageModel, batch: TokenBatch, sites: Sequence[Site | str], kept: Callable[[Activations], Tensor] | None = None
) -> dict[Site, Tensor]:
    """Run one batch and return the activations at `sites`, or what `kept` makes of each, with their autograd graph if gradients are on.

    The forward stops once every site has been seen; gradients are those of the full forward, since nothing above contributes.
    Edits whose contexts are open around this call act first.

    Raises:
        UnknownSite: the model has no such site.
    """
    wanted = [site_of(address) for address in sites]
    seen: dict[Site, Tensor] = {}

    def reader(address: Site):  # noqa: ANN202
        def keep(x: Activations) -> None:
            seen[address] = x if kept is None else kept(x)
            if len(seen) == len(set(wanted)):
                raise _SeenAll

        return keep

    try:
        with model.intercepts([(address, reader(address)) for address in dict.fromkeys(wanted)]):
            model.logits(batch)
    except _SeenAll:
        pass
    return seen


def stream(
    model: LanguageModel,
    batch: TokenBatch,
    sites: Sequence[Site | str],
    positions: Positions | Bool[Tensor, "batch pos"] = "last",
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Iterator[dict[Site, Rows2d]]:
    """Yield, batch by batch, the activations at the chosen positions, one row a position, in the order of rows and positions.

    positions: the last token of each row, all real tokens, those of the continuation, or a mask. Memory: one batch.

    Raises:
        NotFinite: the model's activations hold NaN or infinite values.
    """

    def picked(x: Activations, part: TokenBatch, chosen: Bool[Tensor, "batch pos"]) -> Rows2d:
        return x[chosen.to(x.device)].to(model.device, copy=True)  # layers may lie on several devices

    yield from reduced(model, batch, sites, ("rows", _chosen(batch, positions)), picked, batch_size=batch_size, progress=progress)


def reduced(
    model: LanguageModel,
    batch: TokenBatch,
    sites: Sequence[Site | str],
    kind: tuple[str, Bool[Tensor, "batch pos"]],
    rows: Callable[[Activations, TokenBatch, Bool[Tensor, "batch pos"]], Rows2d],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Iterator[dict[Site, Rows2d]]:
    """As `stream`, of whatever `rows` makes of a site's activations, their tokens and the chosen positions. Memory: one batch of rows.

    kind: the name of what is made, and the chosen positions.

    Raises:
        NotFinite: it holds NaN or infinite values.
    """
    tell, (name, chosen) = progress or silent(), kind
    for start in range(0, len(batch), batch_size):
        at = slice(start, start + batch_size)
        part = batch.rows(at).trimmed()
        mine = chosen[at][:, -part.ids.shape[1] :]

        def made(x: Activations, part: TokenBatch = part, mine: Bool[Tensor, "batch pos"] = mine) -> Rows2d:
            return rows(x, part, mine)

        found = rows_of(model, part, [site_of(address) for address in sites], (name, mine), made)
        for address, x in found.items():
            if not torch.isfinite(x).all():
                raise NotFinite(f"{model.info.name} has NaN or infinite activations at {address}.", "Load it in float32.")
        tell(min(1.0, (start + batch_size) / len(batch)), "Collecting activations")
        yield found


def rows_of(
    model: LanguageModel, part: TokenBatch, sites: Sequence[Site], kind: tuple[str, Tensor], rows: Callable[[Activations], Rows2d]
) -> dict[Site, Rows2d]:
    """What `rows` makes of a batch's activations at each site, without gradients; candidates of one choice share a forward.

    kind: the name of what is made, and the tensor that it follows from beside the activations.
    """
    name, drawn = kind
    seen = (name, id(model), *(x.numpy(force=True).tobytes() for x in (part.ids, part.mask, drawn)))
    known = {site: memo.recalled((seen, site)) for site in sites} if is_quiet() else {}
    if known and all(x is not None for x in known.values()):
        return known
    with torch.no_grad():
        found = activations(model, part, [*sites, *memo.wanted_too()], rows)
    if is_quiet():
        for site, x in found.items():
            memo.keep((seen, site), x, x.untyped_storage().nbytes())
    return {site: found[site] for site in sites}


def gather(
    model: LanguageModel,
    batch: TokenBatch,
    sites: Sequence[Site | str],
    positions: Positions | Bool[Tensor, "batch pos"] = "last",
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[Site, Rows2d]:
    """As `stream`, put together: one (row, width) matrix a site."""
    parts = list(stream(model, batch, sites, positions, batch_size=batch_size, progress=progress))
    return {site: torch.cat([part[site] for part in parts]) for site in parts[0]}


def _chosen(batch: TokenBatch, positions: Positions | Tensor) -> Bool[Tensor, "batch pos"]:
    if isinstance(positions, Tensor):
        return positions & batch.mask
    if positions == "all":
        return batch.mask
    if positions == "continuation":
        return batch.mask & (batch.positions >= batch.n_prompt[:, None])
    last = torch.zeros_like(batch.mask)
    last[:, -1] = True  # rows are padded on the left
    return last
