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


def activations(model: LanguageModel, batch: TokenBatch, sites: Sequence[Site | str]) -> dict[Site, Activations]:
    """Run one batch and return the activations at `sites`, with their autograd graph if gradients are on.

    The forward stops once every site has been seen; gradients are those of the full forward, since nothing above contributes.
    Edits whose contexts are open around this call act first.

    Raises:
        UnknownSite: the model has no such site.
    """
    wanted = [site_of(address) for address in sites]
    seen: dict[Site, Activations] = {}

    def reader(address: Site):  # noqa: ANN202
        def keep(x: Activations) -> None:
            seen[address] = x
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
    tell, chosen = progress or silent(), _chosen(batch, positions)
    for start in range(0, len(batch), batch_size):
        rows = slice(start, start + batch_size)
        part = batch.rows(rows).trimmed()
        picked = chosen[rows][:, -part.ids.shape[1] :]
        found = _picked(model, part, picked, sites)
        for address, x in found.items():
            if not torch.isfinite(x).all():
                raise NotFinite(f"{model.info.name} has NaN or infinite activations at {address}.", "Load it in float32.")
        tell(min(1.0, (start + batch_size) / len(batch)), "Collecting activations")
        yield found


def _picked(model: LanguageModel, part: TokenBatch, picked: Bool[Tensor, "batch pos"], sites: Sequence[Site | str]) -> dict[Site, Rows2d]:
    """The rows at some positions of one batch."""

    def rows(x: Activations) -> Rows2d:
        return x[picked.to(x.device)].to(model.device, copy=True)  # layers may lie on several devices

    return rows_of(model, part, [site_of(address) for address in sites], ("rows", picked), rows)


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
        found = {site: rows(x) for site, x in activations(model, part, [*sites, *memo.wanted_too()]).items()}
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
