"""Edits on a TransformerLens bridge, so that its tools look at the edited model.

The engine acts on the plain network; TransformerLens's tools run the bridge, a second module tree over the same
parameters. Here the same operations act there: transforms and added terms as torch hooks on the bridge's hook points,
changed tables as parameters swapped on the twin's own module objects. Nothing is written into a shared tensor, and each
hook is taken off by its own handle.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from workbench.edits.base import Edit
from workbench.edits.engine import act, bound, changed, checked, is_whole, planned
from workbench.errors import Obstructed
from workbench.lenses import registry
from workbench.models.base import LanguageModel, WeightSlot
from workbench.models.bridge import BridgeModel
from workbench.models.tokens import TokenBatch, current_forward, running
from workbench.operations import AddToWeight, LowRank, Rows, TransformAt, by_sequence, own_part, term, with_term
from workbench.progress import stop_if_asked
from workbench.shapes import Logits, Tensor
from workbench.sites import Site

_Kept = TypeVar("_Kept")
# Who waits for another lens asks this often whether to go on waiting.
_LOOKS_EVERY_S = 0.1

_HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "head_z": "attn.hook_z",
    "mlp_post": "mlp.hook_post",
}
_WEIGHTS = {
    "w_q": "attn.q",
    "w_k": "attn.k",
    "w_v": "attn.v",
    "w_o": "attn.o",
    "w_in": "mlp.in",
    "w_out": "mlp.out",
    "w_gate": "mlp.gate",
}


def bridged(model: LanguageModel, lens: str | None = None) -> BridgeModel:
    """The model itself if TransformerLens's tools, or those of one lens, can look at it.

    Raises:
        Obstructed: it has no bridge, or lacks what the lens reads.
    """
    if lens is not None:
        registry.require(lens, model)
    if not isinstance(model, BridgeModel):
        raise Obstructed(
            f"This lens runs on TransformerLens's bridge, and {model.info.name} has none.",
            "Load embedded or another GPT-style model; a Backpack has its own lens: senses.",
        )
    return model


def hook_name(site: Site) -> str:
    """TransformerLens's name of an activation site."""
    return "ln_final.hook_out" if site.kind == "ln_final" else f"blocks.{site.layer}.{_HOOKS[site.kind]}"


@contextmanager
def edited_bridge(model: LanguageModel, edits: Sequence[Edit] = ()) -> Generator[Any]:
    """Within this context, the model's bridge carries the edits, in the order given; yields the bridge.

    Holds the model's lock. Afterwards, also after an exception, hooks and parameters are those of before, by identity.

    Raises:
        Obstructed: the model has no bridge, or that does not show where an edit acts. Others: as `engine.lanes`. All before anything is
            touched.
    """
    owner = bridged(model)
    planned(owner, [edits])
    found = [op for edit in edits for op in checked(owner, edit).operations()]
    operations = [bound(owner, op) if isinstance(op, TransformAt) else op for op in found]
    for op in operations:
        _shown(owner, op)
    with ExitStack() as undo:
        while not owner.lock.acquire(timeout=_LOOKS_EVERY_S):
            stop_if_asked()
        undo.callback(owner.lock.release)
        # Transforms first: a weight term must see its module's input as the transforms leave it.
        for op in operations:
            if isinstance(op, TransformAt):
                _hook(owner, undo, hook_name(op.site), partial(act, op, columns=owner.point(op.site).columns))
        for op in operations:
            if isinstance(op, AddToWeight):
                _add(owner, undo, op)
        yield owner.bridge


def run(model: LanguageModel, batch: TokenBatch, edits: Sequence[Edit] = (), names: Sequence[str] = ()) -> tuple[Logits, Any]:
    """Run rows of equal length through the edited bridge; return logits and TransformerLens's cache of named hooks.

    Raises: as `edited_bridge`.
    """
    with torch.no_grad(), edited_bridge(model, edits) as bridge, running(batch.forward()):
        return bridge.run_with_cache(batch.ids, names_filter=list(names))


def shown_to(
    model: LanguageModel, batch: TokenBatch, edits: Sequence[Edit], readers: Mapping[str, Callable[[Tensor], _Kept]]
) -> dict[str, _Kept]:
    """Run rows of equal length through the edited bridge, show each named hook point to its function, and keep what that returns alone.

    The patterns of all heads on a thousand tokens are gigabytes; what is made of them is not.

    Raises: as `edited_bridge`.
    """
    found: dict[str, _Kept] = {}
    with torch.no_grad(), edited_bridge(model, edits) as bridge, running(batch.forward()):

        def keep(x: Tensor, hook: Any) -> None:
            _let_go(bridge)
            found[hook.name] = readers[hook.name](x)

        bridge.run_with_hooks(batch.ids, fwd_hooks=[(name, keep) for name in readers])
        _let_go(bridge)
    return found


def _let_go(bridge: Any) -> None:
    """Drop the last patterns, to which TransformerLens's attention of GPT-2's kind holds on in every layer."""
    for block in bridge.blocks:
        if getattr(getattr(block, "attn", None), "_pattern", None) is not None:
            block.attn._pattern = None


def _shown(model: BridgeModel, op: TransformAt | AddToWeight) -> None:
    """Refuse an edit at a place that TransformerLens's tree does not show: one expert, a matrix within a block without parts."""
    if isinstance(op, TransformAt):
        names = [hook_name(op.site)] if op.site.kind in _HOOKS or op.site.kind == "ln_final" else []
    elif op.site.kind in _WEIGHTS and not isinstance(op.delta, Rows):
        names = [f"blocks.{op.site.layer}.{_WEIGHTS[op.site.kind]}.hook_{side}" for side in ("in", "out")]
    else:
        return
    if not names or any(name not in model.bridge.hook_dict for name in names):
        raise Obstructed(
            f"TransformerLens's tree of {model.info.architecture} does not show {op.site}, where the edit acts.",
            "Look without the edit; comparing and measuring it do not need that tree.",
        )


def _hook(model: BridgeModel, undo: ExitStack, name: str, fn: Callable[[Tensor], Tensor | None]) -> None:
    """Put a torch hook on a hook point; `fn` sees (batch, pos, width), whatever TransformerLens shows its own hooks."""

    def after(_: nn.Module, __: Any, x: Tensor) -> Tensor | None:
        forward = current_forward()
        rows = x.flatten(2) if x.ndim == 4 else x if forward is None else by_sequence(x, forward.real)
        y = fn(rows)
        return None if y is None else y.view(x.shape)

    undo.callback(model.bridge.hook_dict[name].register_forward_hook(after).remove)


def _add(model: BridgeModel, undo: ExitStack, op: AddToWeight) -> None:
    slot = model.weight(op.site)
    fused = _fused(model) if op.site.kind == "param" else []
    parts = [(site, part) for site, part in fused if part.module is slot.module]
    if parts and isinstance(op.delta, Tensor):
        # The bridge runs q, k and v apart, on views of the fused matrix that a swapped parameter would not reach.
        for site, part in parts:
            _add_term(model, undo, site, own_part(op.delta, transposed=part.is_transposed, columns=part.columns))
    elif is_whole(op, slot) or isinstance(op.delta, Rows) or op.site.kind == "w_u":
        _swap(model, undo, op, slot)
    else:
        _add_term(model, undo, op.site, op.delta)


def _add_term(model: BridgeModel, undo: ExitStack, site: Site, delta: Tensor | LowRank | Rows) -> None:
    place, seen = f"blocks.{site.layer}.{_WEIGHTS[site.kind]}", list[Tensor]()

    def read(x: Tensor) -> None:
        seen[:] = [x]

    def add(y: Tensor) -> Tensor:
        return with_term(y, term(delta, seen.pop()))

    _hook(model, undo, f"{place}.hook_in", read)
    _hook(model, undo, f"{place}.hook_out", add)


def _fused(model: BridgeModel) -> list[tuple[Site, WeightSlot]]:
    """The parts of all fused q/k/v matrices."""
    slots = [(site, model.weight(site)) for site in model.sites() if site.kind in ("w_q", "w_k", "w_v")]
    return [(site, slot) for site, slot in slots if slot.columns is not None]


def _swap(model: BridgeModel, undo: ExitStack, op: AddToWeight, slot: WeightSlot) -> None:
    module = _twin_module(model.bridge, slot.parameter_name.rpartition(".")[0])
    name = slot.parameter_name.rpartition(".")[2]
    old: Any = module._parameters[name]  # pyright: ignore[reportPrivateUsage]
    undo.callback(module._parameters.__setitem__, name, old)  # pyright: ignore[reportPrivateUsage]
    module._parameters[name] = changed(old, op, slot)  # pyright: ignore[reportPrivateUsage]


def _twin_module(bridge: Any, path: str) -> nn.Module:
    """The plain module of the twin at a path of the network: the bridge has put its components in between."""
    module = _plain(bridge.original_model)
    for part in path.split("."):
        module = _plain(module._modules[part])  # pyright: ignore[reportPrivateUsage]
    return module


def _plain(module: Any) -> nn.Module:
    while "_original_component" in module._modules:
        module = module._modules["_original_component"]
    return module
