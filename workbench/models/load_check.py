"""A look at a model before anybody uses it: does it do what every address, lane and cache of Retouch takes for granted?

Two rows of four columns go through the network, the second padded and beginning as the first does. One forward shows which addresses carry
one vector a token, whether the streams are those that Hugging Face reports, and whether a padded row equals the same row alone. Four more
columns go through its cache, and four through TransformerLens's bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from workbench.errors import ModelUnavailable
from workbench.models import caches
from workbench.models.hooks import Point
from workbench.models.layout import Layout
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
    it plus what attention and MLP returned. `entangled`: parameters whose modules are no map from one tensor to one. `is_chain`: each block is called once, with what the one before returned.
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


def _rows_stay_apart(call: Any, n_rows: int) -> bool:
    """Whether every tensor of a block's call has a row a sequence, or one for all: Bloom's position biases have one a head."""
    if isinstance(call, Tensor):
        return call.ndim < 2 or call.shape[0] in (1, n_rows)
    if isinstance(call, dict):
        return all(_rows_stay_apart(item, n_rows) for item in call.values())  # pyright: ignore[reportUnknownVariableType]
    return not isinstance(call, (tuple, list)) or all(_rows_stay_apart(item, n_rows) for item in call)  # pyright: ignore[reportUnknownVariableType]


def look(layout: Layout, run: Callable[[TokenBatch], Any], batch: TokenBatch, n_heads: int) -> Seen:
    """Run one forward and compare it with what Hugging Face says of it; `run` returns its output with `hidden_states`.

    Raises:
        ModelUnavailable: the blocks carry no single stream, the streams are not Hugging Face's, or padding changes what a row says.
    """
    name, n_layers = type(layout.network).__name__, len(layout.blocks)
    asked = {Site(kind, layer): layout.points(Site(kind, layer)) for layer in range(n_layers) for kind in LAYER_ACTIVATIONS}
    asked[Site("ln_final")] = layout.points(Site("ln_final"))
    experts = {layer: module for layer in range(n_layers) if (module := layout.experts(layer)) is not None}
    with torch.no_grad(), running(batch.forward()), _recorded(layout, asked, experts) as shown:
        out = run(batch)
    shape = tuple(batch.ids.shape)
    streams = [shown.at(Point(block, side), shape) for block, side in [(layout.blocks[0], "in"), *((block, "out") for block in layout.blocks)]]
    known = [stream for stream in streams if stream is not None]
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
    chain = chain and all(_rows_stay_apart(shown.call(block), len(batch)) for block in layout.blocks)
    called = {layer: module for layer, module in experts.items() if shown.routes(module)}
    return Seen(points, widths, called, shown.entangled(layout.network), tuple(known), out.logits, adds_up, chain)


def rounding(x: Tensor) -> float:
    """Share of a norm by which two ways to x may differ."""
    return _ROUNDING.get(x.dtype, 1e-1)


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest ‖a − b‖ / ‖b‖ over the tokens (0 where both are 0)."""
    a, b = ours.double(), theirs.double()
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-30)).nan_to_num(nan=float("inf")).max())


def _compare_with_hidden_states(name: str, streams: Sequence[Tensor], normed: Tensor | None, theirs: Any, batch: TokenBatch) -> None:
    """Each block's input is what Hugging Face reports; behind the last it reports the stream or its norm."""
    if theirs is None or len(theirs) != len(streams):
        said = "none" if theirs is None else str(len(theirs))
        raise ModelUnavailable(f"{name} reports {said} hidden states for {len(streams) - 1} blocks, so its streams cannot be checked.", _HINT)
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
    return gap(ours[batch.mask], told[batch.mask]) if ours.shape == told.shape else float("inf")


def _compare_padded(name: str, last: Tensor, batch: TokenBatch) -> None:
    differs = gap(last[1, _PADDED:], last[0, : _COLUMNS - _PADDED])
    if not differs <= rounding(last):
        raise ModelUnavailable(
            f"{name} reads padding, or tokens to come, as text: a shorter row beside a longer one differs from itself alone by {differs:.2g}.",
            _HINT,
        )


def _chosen(asked: Mapping[Site, tuple[Point, ...]], shown: _Shown, shape: tuple[int, ...]) -> dict[Site, Point]:
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
            if gap(before + sum(part for part in parts if part is not None), after) < 10 * rounding(after):
                points |= {Site(kind, layer): point for kind, point in (("attn_out", one), ("mlp_out", two)) if point is not None}
                break
    return points


def _sum_gap(layer: int, points: Mapping[Site, Point], shown: _Shown, streams: Sequence[Tensor], shape: tuple[int, ...]) -> float:
    parts = [shown.at(points[site], shape) for site in (Site("attn_out", layer), Site("mlp_out", layer)) if site in points]
    found = [part for part in parts if part is not None and part.shape == streams[layer].shape]
    return gap(streams[layer] + sum(found), streams[layer + 1]) if found else float("inf")


class _Shown:
    """What modules were called with and returned, by point, in the order of the calls."""

    def __init__(self) -> None:
        self.maps: set[int] = set()
        self._values: dict[tuple[int, str], list[Any]] = {}

    def add(self, key: tuple[int, str], value: Any) -> None:
        # Some networks go on writing into a tensor that a module has returned.
        self._values.setdefault(key, []).append(value.detach().clone() if isinstance(value, Tensor) else value)

    def at(self, point: Point, shape: tuple[int, ...]) -> Tensor | None:
        """The last value if it is one vector a token, as (batch, pos, width)."""
        found = self._values.get(point.key, [None])[-1]
        if not isinstance(found, Tensor) or not found.is_floating_point():
            return None
        if found.ndim == 2 and found.shape[0] == shape[0] * shape[1]:
            return found.view(*shape, -1)
        return found if found.ndim == 3 and tuple(found.shape[:2]) == shape else None

    def width(self, point: Point) -> int:
        return int(self._values[point.key][-1].shape[-1])

    def count(self, point: Point) -> int:
        return len(self._values.get(point.key, []))

    def entangled(self, network: nn.Module) -> frozenset[str]:
        """Parameters whose modules were not called with one tensor for one."""
        return frozenset(
            f"{path}.{name}".lstrip(".")
            for path, module in network.named_modules()
            for name, _ in module.named_parameters(recurse=False)
            if id(module) not in self.maps
        )

    def call(self, module: nn.Module) -> Any:
        """What a module was called with."""
        return self._values.get((id(module), "call"), [()])[-1]

    def routes(self, module: nn.Module) -> bool:
        """Whether it was called with tokens, the indices of their experts, and the weights of these."""
        calls = self._values.get((id(module), "call"), [])
        if len(calls) != 1 or len(calls[0]) != 3 or not all(isinstance(value, Tensor) for value in calls[0]):
            return False
        tokens, index, weight = calls[0]
        return tokens.ndim == index.ndim == weight.ndim == 2 and not index.is_floating_point() and index.shape == weight.shape


@contextmanager
def _recorded(layout: Layout, asked: Mapping[Site, tuple[Point, ...]], experts: Mapping[int, nn.Module]) -> Generator[_Shown]:
    shown, handles = _Shown(), list[Any]()
    points = [point for found in asked.values() for point in found]

    def before(key: tuple[int, str]) -> Any:
        return lambda _, args, kwargs: shown.add(key, first_tensor(args, kwargs))

    def after(key: tuple[int, str]) -> Any:
        return lambda _, __, output: shown.add(key, output[0] if isinstance(output, tuple) else output)

    def mapped(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            shown.maps.add(id(module))

    try:
        for module in layout.network.modules():
            if next(module.parameters(recurse=False), None) is not None:
                handles.append(module.register_forward_hook(mapped, with_kwargs=True))
        for point in {point.key: point for point in points}.values():
            if point.side == "in":
                handles.append(point.module.register_forward_pre_hook(before(point.key), with_kwargs=True))
            else:
                handles.append(point.module.register_forward_hook(after(point.key)))
        for module in (*experts.values(), *layout.blocks):
            key = (id(module), "call")
            record: Any = lambda _, args, kwargs, key=key: shown.add(key, (*args, *kwargs.values()))  # noqa: E731
            handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
        yield shown
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module is called on: its first argument, else the one called hidden_states."""
    return args[0] if args else kwargs.get("hidden_states")


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
    differs = max(gap(all_rows, wanted), gap(chosen, wanted[rows]))
    return "" if differs <= rounding(wanted) else f"Logits through its cache differ from those without by {differs:.2g} of them."


# What TransformerLens's tree shows only when asked: each head's result, the inputs of q, k and v, the entry of the MLP.
_FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")


def bridge_hooks(bridge: Any, ids: Tensor, streams: Sequence[Tensor], n_heads: int) -> tuple[frozenset[str], str]:
    """The hook points of TransformerLens's tree that show (batch, pos, …), and why its residual streams are not the network's, if so."""
    try:
        shown = _shown_by_bridge(bridge, ids)
    except FOREIGN as error:
        return frozenset(), f"it does not run ({one_line(error)})"
    try:
        every = shown | _shown_by_bridge(bridge, ids, _FLAGS)
    except FOREIGN:
        every = shown
    names = frozenset(name for name, x in every.items() if x.ndim >= 3 and x.shape[0] == len(ids) and _has_heads(name, x, n_heads))
    for layer, ours in enumerate(streams):
        name = f"blocks.{layer}.hook_resid_pre" if layer < len(streams) - 1 else f"blocks.{layer - 1}.hook_resid_post"
        seen = shown.get(name)
        differs = float("inf") if seen is None or seen.shape != ours.shape else gap(seen, ours)
        if not differs <= rounding(ours):
            return names, f"its {name} " + ("shows nothing" if differs == float("inf") else f"differs from the network's by {differs:.2g} of it")
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
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
