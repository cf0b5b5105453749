"""A look at a model before anybody uses it: does it do what every address, lane and cache of Retouch takes for granted?

Two rows of four columns go through the network, the second padded and beginning as the first does. One forward shows which addresses carry
one vector a token, whether the streams are those that Hugging Face reports, and whether a padded row equals the same row alone. Four more
columns go through its cache, and four through TransformerLens's bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from workbench.errors import CorruptModel, ModelUnavailable
from workbench.models import caches
from workbench.models.hooks import Point
from workbench.models.layout import Layout
from workbench.models.shown import Shown, recorded
from workbench.models.tokens import TokenBatch, running
from workbench.shapes import Tensor
from workbench.sites import LAYER_ACTIVATIONS, Site

# Share of a vector's norm by which two ways to one vector may differ, and still be rounding.
_ROUNDING = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
# What code of others raises on a network that it does not fit.
FOREIGN = (RuntimeError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError, IndexError, AssertionError)
_COLUMNS, _PADDED = 4, 2
_HINT = "Choose a model of a family that docs/families.md lists as loading."


@dataclass(frozen=True)
class Seen:
    """What the forward showed.

    `points` and `widths` are of the activation sites that carry one vector a token. `adds_up`: the stream behind each block is what entered
    it plus what attention and MLP returned. `entangled`: parameters whose modules are no map from one tensor to one. `is_chain`: each block
    is called once, with what the one before returned, and with tensors that have a row a sequence.
    """

    points: Mapping[Site, Point]
    widths: Mapping[Site, int]
    experts: Mapping[int, nn.Module]
    entangled: frozenset[str]
    streams: tuple[Tensor, ...]
    logits: Tensor
    adds_up: bool
    is_chain: bool


def short_batch(d_vocab: int, device: torch.device) -> TokenBatch:
    """Two rows of token ids, (2, 4): the second is two columns of padding and the first two tokens of the first."""
    row = torch.linspace(1, min(d_vocab, 1000) - 1, _COLUMNS + 1).long().tolist()[:_COLUMNS]
    return TokenBatch.of([row, row[: _COLUMNS - _PADDED]], None, device)


def first_look(layout: Layout, run: Callable[[TokenBatch], Any], batch: TokenBatch, n_heads: int) -> Seen:
    """Run one forward and compare it with what Hugging Face says of it; `run` returns its output with `hidden_states`.

    Raises:
        ModelUnavailable: the blocks carry no single stream, the streams are not Hugging Face's, or padding changes what a row says.
        CorruptModel: weights are not finite.
    """
    name, n_layers = type(layout.network).__name__, len(layout.blocks)
    asked = {Site(kind, layer): layout.points(Site(kind, layer)) for layer in range(n_layers) for kind in LAYER_ACTIVATIONS}
    asked[Site("ln_final")] = layout.points(Site("ln_final"))
    experts = {layer: module for layer in range(n_layers) if (module := layout.experts(layer)) is not None}
    with torch.no_grad(), running(batch.forward()), recorded(layout, asked, experts) as shown:
        out = run(batch)
    _require_finite(layout.network, name, out.logits[batch.mask])
    shape = tuple(batch.ids.shape)
    ends = [Point(layout.blocks[0], "in"), *(Point(block, "out") for block in layout.blocks)]
    known = [stream for point in ends if (stream := shown.at(point, shape)) is not None]
    if len(known) != n_layers + 1:
        raise ModelUnavailable(f"The blocks of {name} do not hand on one vector a token, so there is no residual stream to edit.", _HINT)
    _compare_with_hidden_states(name, known, shown.at(Point(layout.named("ln_final"), "out"), shape), out.hidden_states, batch)
    _compare_padded(name, known[-1], batch)
    points = _chosen(asked, shown, shape)
    widths = {site: shown.width(point) for site, point in points.items()}
    uneven = {site for site, width in widths.items() if site.kind == "head_z" and (n_heads == 0 or width % n_heads)}
    for site in uneven:
        del points[site], widths[site]
    adds_up = all(_sum_gap(layer, points, shown, known, shape) < 10 * rounding(known[0]) for layer in range(n_layers))
    chain = all(shown.count(Point(block, "out")) == 1 for block in layout.blocks) and all(
        (entered := shown.at(Point(block, "in"), shape)) is not None and torch.equal(entered, stream)
        for block, stream in zip(layout.blocks, known)
    )
    chain = chain and all(shown.rows_stay_apart(block, len(batch)) for block in layout.blocks)
    called = {layer: module for layer, module in experts.items() if shown.routes(module)}
    return Seen(points, widths, called, shown.entangled(layout.network), tuple(known), out.logits, adds_up, chain)


def _require_finite(network: nn.Module, name: str, logits: Tensor) -> None:
    if bool(logits.isfinite().all()):
        return
    damaged = next((path for path, weights in network.named_parameters() if not bool(weights.isfinite().all())), None)
    if damaged is not None:
        raise CorruptModel(
            f"The weights of {name} hold numbers that are not finite (first: {damaged}).", "Save or download the model again."
        )
    kind = str(logits.dtype).removeprefix("torch.")
    raise ModelUnavailable(f"{name} gives numbers that are not finite in {kind}.", "Load it in float32, and check its config.json.")


def rounding(x: Tensor) -> float:
    """Share of a norm by which two ways to x may differ."""
    return _ROUNDING.get(x.dtype, 1e-1)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest ‖a − b‖ / ‖b‖ over the tokens (0 where both are 0)."""
    a, b = ours.cpu().double(), theirs.cpu().double()
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-30)).nan_to_num(nan=float("inf")).max())


def _compare_with_hidden_states(name: str, streams: Sequence[Tensor], normed: Tensor | None, theirs: Any, batch: TokenBatch) -> None:
    """Each block's input is what Hugging Face reports; behind the last it reports the stream or its norm."""
    if theirs is None or len(theirs) != len(streams):
        said = f"{'no' if theirs is None else len(theirs)} hidden states for {len(streams) - 1} blocks"
        raise ModelUnavailable(f"{name} reports {said}, so its streams cannot be checked.", _HINT)
    # Most families report what enters each block and then the end; Mamba's report what leaves each and then its norm.
    entering = [_stream_gap(ours, told, batch) for ours, told in zip(streams[:-1], theirs)]
    leaving = [_stream_gap(ours, told, batch) for ours, told in zip(streams[1:], theirs)]
    ends = [_stream_gap(ours, theirs[-1], batch) for ours in (streams[-1], normed) if ours is not None]
    told = min(entering, leaving, key=max)
    differs = [*told, min(ends)]
    worst = max(range(len(differs)), key=differs.__getitem__)
    if not differs[worst] <= rounding(streams[0]):
        at = f"resid_pre@{worst}" if worst < len(told) and told is entering else f"resid_post@{min(worst, len(told) - 1)}"
        raise ModelUnavailable(
            f"The residual stream of {name} at {at} differs from Hugging Face's hidden state by {differs[worst]:.2g} of it.", _HINT
        )


def _stream_gap(ours: Tensor, told: Tensor, batch: TokenBatch) -> float:
    mask = batch.mask.cpu()
    return apart(ours[mask], told.cpu()[mask]) if ours.shape == told.shape else float("inf")


def _compare_padded(name: str, last: Tensor, batch: TokenBatch) -> None:
    differs = apart(last[1, _PADDED:], last[0, : _COLUMNS - _PADDED])
    if not differs <= rounding(last):
        raise ModelUnavailable(
            f"{name} reads padding, or tokens to come, as text: a row beside a longer one differs from itself alone by {differs:.2g}.",
            _HINT,
        )


def _chosen(asked: Mapping[Site, tuple[Point, ...]], shown: Shown, shape: tuple[int, ...]) -> dict[Site, Point]:
    """For each site the first place that shows one vector a token; for branches, the first pair that adds up to the stream."""
    there = {site: [point for point in points if shown.at(point, shape) is not None] for site, points in asked.items()}
    points = {site: found[0] for site, found in there.items() if found}
    for site in [site for site in points if site.kind == "resid_post"]:
        layer = site.layer or 0
        before, after = shown.at(points[Site("resid_pre", layer)], shape), shown.at(points[site], shape)
        sides = [there.get(Site(kind, layer), []) for kind in ("attn_out", "mlp_out")]
        for one, two in ((a, b) for a in sides[0] or [None] for b in sides[1] or [None]):
            parts = [shown.at(point, shape) for point in (one, two) if point is not None]
            if before is None or after is None or not parts or any(part is None or part.shape != after.shape for part in parts):
                continue
            if apart(before + sum(part for part in parts if part is not None), after) < 10 * rounding(after):
                points |= {Site(kind, layer): point for kind, point in (("attn_out", one), ("mlp_out", two)) if point is not None}
                break
    return points


def _sum_gap(layer: int, points: Mapping[Site, Point], shown: Shown, streams: Sequence[Tensor], shape: tuple[int, ...]) -> float:
    parts = [shown.at(points[site], shape) for site in (Site("attn_out", layer), Site("mlp_out", layer)) if site in points]
    found = [part for part in parts if part is not None and part.shape == streams[layer].shape]
    return apart(streams[layer] + sum(found), streams[layer + 1]) if found else float("inf")


def cache_fault(step: Callable[[TokenBatch, Any, int], Tensor], new_cache: Callable[[], Any], batch: TokenBatch, wanted: Tensor) -> str:
    """Why the last logits through a cache, also through one of chosen rows, are not those without (`wanted`); empty if they are."""
    begun = TokenBatch(batch.ids[:, :-1], batch.mask[:, :-1], batch.n_prompt)
    rows = torch.tensor([1, 0, 1], device=batch.ids.device)
    try:
        with torch.no_grad():
            cache = new_cache()
            with running(begun.forward()):
                step(begun, cache, 0)
            some = caches.selected(cache, rows)
            with running(batch.forward(_COLUMNS - 1)):
                all_rows = step(batch, cache, _COLUMNS - 1)
            with running(batch.rows(rows).forward(_COLUMNS - 1)):
                chosen = step(batch.rows(rows), some, _COLUMNS - 1)
    except FOREIGN as error:
        return f"Its cache does not run: {one_line(error)}"
    differs = max(apart(all_rows, wanted), apart(chosen, wanted[rows]))
    return "" if differs <= rounding(wanted) else f"Logits through its cache differ from those without by {differs:.2g} of them."


# What TransformerLens's tree shows only when asked: each head's result, the inputs of q, k and v, the entry of the MLP.
_FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")


def bridge_hooks(bridge: Any, ids: Tensor, streams: Sequence[Tensor], n_heads: int) -> tuple[frozenset[str], str]:
    """The hook points of TransformerLens's tree that show (batch, pos, …), and why its residual streams are not the network's, if so."""
    try:
        shown = _shown_by_bridge(bridge, ids)
    except FOREIGN as error:
        return frozenset(), f"it does not run: {one_line(error)}"
    try:
        every = shown | _shown_by_bridge(bridge, ids, _FLAGS)
    except FOREIGN:
        every = shown
    names = frozenset(name for name, x in every.items() if x.ndim >= 3 and x.shape[0] == len(ids) and _has_heads(name, x, n_heads))
    for layer, ours in enumerate(streams):
        name = f"blocks.{layer}.hook_resid_pre" if layer < len(streams) - 1 else f"blocks.{layer - 1}.hook_resid_post"
        seen = shown.get(name)
        differs = float("inf") if seen is None or seen.shape != ours.shape else apart(seen, ours)
        if not differs <= rounding(ours):
            by = "shows no such stream" if differs == float("inf") else f"differs from the network's by {differs:.2g} of it"
            return names, f"its {name} {by}"
    return names, ""


def _shown_by_bridge(bridge: Any, ids: Tensor, flags: Sequence[str] = ()) -> dict[str, Tensor]:
    try:
        for flag in flags:
            getattr(bridge, f"set_{flag}")(True)
        with torch.no_grad():
            return {name: x for name, x in bridge.run_with_cache(ids)[1].items() if isinstance(x, Tensor)}
    finally:
        for flag in flags:
            getattr(bridge, f"set_{flag}")(False)


def _has_heads(name: str, x: Tensor, n_heads: int) -> bool:
    """Whether what is shown head by head has the model's heads: latent attention (DeepSeek) is cut by another width."""
    return not name.endswith("attn.hook_z") or x.ndim == 3 or x.shape[2] == n_heads


def one_line(error: BaseException) -> str:
    """The first line of what an error says, with its kind where it says nothing on its own."""
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__
