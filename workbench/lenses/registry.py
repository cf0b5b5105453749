"""The lenses by name. A module is imported when a lens is first used: TransformerLens's tools are slow to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from workbench.errors import Obstructed, UnknownName
from workbench.methods.shared.needs import Obstacle
from workbench.models.base import LanguageModel
from workbench.sites import Site

Network = Literal["bridge", "backpack", "any"]


@dataclass(frozen=True)
class LensNeeds:
    """Where a lens is and what it needs to look: TransformerLens's bridge, the senses of a Backpack, or activations that any network has.

    `hooks`: hook points of a block of the bridge that every layer must have (`some`: one layer at least). `sums`: what attention and MLP
    return must add up to the stream. `apart`: what heads write must join the stream as it is, and the MLP read after the block's attention;
    `writes`: the first of these. `asks`: a function of its module that tells what else stands in the way. `fit`: the lens whose result it
    reads through, which a session keeps for each model.
    """

    module: str
    network: Network
    hooks: tuple[str, ...] = ()
    some: bool = False
    sums: bool = False
    apart: bool = False
    writes: bool = False
    experts: bool = False
    asks: str = ""
    fit: str = ""


_STREAMS, _HEADS = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out"), ("attn.hook_z",)
_EDGES = ("hook_mlp_in", "attn.hook_result", "attn.hook_q_input")
_MATRICES = ("attn.hook_q", "attn.hook_k", "attn.v.hook_out")
_LENSES: dict[str, LensNeeds] = {
    "attention": LensNeeds("workbench.lenses.attention", "bridge", ("attn.hook_pattern",), some=True),
    "logit_lens": LensNeeds("workbench.lenses.logit_lens", "bridge", ("hook_resid_pre", "hook_resid_post")),
    "jacobian_fit": LensNeeds("workbench.lenses.jacobian_fit", "bridge", ("hook_resid_pre", "hook_resid_post"), asks="obstacle"),
    "jacobian_lens": LensNeeds("workbench.lenses.jacobian_lens", "bridge", fit="jacobian_fit"),
    "cell_edit": LensNeeds("workbench.lenses.cell_edits", "any"),
    "stream_readout": LensNeeds("workbench.lenses.patch_lens", "any"),
    "patch_lens": LensNeeds("workbench.lenses.patch_lens", "any"),
    "direct_attribution": LensNeeds("workbench.lenses.attribution", "bridge", (*_STREAMS, *_HEADS), sums=True),
    "activation_patching": LensNeeds("workbench.lenses.patching", "bridge", (*_STREAMS, *_HEADS)),
    "attribution_patching": LensNeeds("workbench.lenses.patching", "bridge", (*_STREAMS, *_HEADS)),
    "edit_effect": LensNeeds("workbench.lenses.edit_effect", "bridge", (*_STREAMS, *_HEADS), sums=True, writes=True, asks="unheld"),
    "head_scores": LensNeeds("workbench.lenses.heads", "bridge", ("attn.hook_pattern",)),
    "head_profile": LensNeeds("workbench.lenses.head_profile", "bridge", ("attn.hook_pattern", *_STREAMS, *_HEADS), sums=True, writes=True),
    "head_card": LensNeeds("workbench.lenses.head_card", "bridge", ("attn.hook_pattern", *_MATRICES, *_HEADS), writes=True),
    "induction_proof": LensNeeds("workbench.lenses.induction", "bridge", ("attn.hook_pattern", *_HEADS)),
    "name_movers": LensNeeds("workbench.lenses.heads", "bridge", ("attn.hook_pattern", *_STREAMS, *_HEADS), sums=True),
    "head_ablation": LensNeeds("workbench.lenses.ablation", "bridge", _HEADS),
    "circuit": LensNeeds("workbench.lenses.circuits", "bridge", (*_STREAMS, *_HEADS, *_EDGES), sums=True, apart=True),
    "over_rows": LensNeeds("workbench.lenses.over_rows", "bridge", ("hook_resid_pre", "hook_resid_post")),  # a kind needs its lens too
    "node_table": LensNeeds("workbench.lenses.nodes", "bridge", (*_STREAMS, *_HEADS), sums=True, writes=True),
    "upstream": LensNeeds("workbench.lenses.nodes", "bridge", (*_STREAMS, *_HEADS, *_EDGES), sums=True, apart=True),
    "flow": LensNeeds(
        "workbench.lenses.flow", "bridge", ("attn.hook_pattern", "attn.v.hook_out", *_STREAMS, *_HEADS), sums=True, apart=True
    ),
    "reader": LensNeeds("workbench.lenses.reader", "any"),
    "reader_file": LensNeeds("workbench.lenses.reader_file", "any"),
    "direction_card": LensNeeds("workbench.lenses.directions", "any"),
    "steering": LensNeeds("workbench.lenses.directions", "any"),
    "routing": LensNeeds("workbench.lenses.routing", "any", experts=True),
    "layer_effects": LensNeeds("workbench.lenses.layer_effects", "any"),
    "concept_meter": LensNeeds("workbench.lenses.concept_meter", "any"),
    "demonstration_geometry": LensNeeds("workbench.lenses.geometry", "any"),
    "enough_pairs": LensNeeds("workbench.lenses.enough", "any"),
    "locate": LensNeeds("workbench.lenses.locate", "any"),
    "senses": LensNeeds("workbench.lenses.senses", "backpack"),
    "sense_reading": LensNeeds("workbench.lenses.senses", "backpack"),
}


def lens_names() -> tuple[str, ...]:
    """Names of the lenses, in the order in which people are shown them."""
    return tuple(_LENSES)


def lens(name: str) -> Callable[..., Any]:
    """The function behind a lens; its first argument is the model.

    Raises:
        UnknownName: there is no such lens.
    """
    return getattr(importlib.import_module(_needs(name).module), name)


def fits(name: str) -> bool:
    """Whether a lens makes what another reads through. Raises: UnknownName."""
    return _needs(name) in [_LENSES[needs.fit] for needs in _LENSES.values() if needs.fit]


def read_through(name: str) -> str:
    """The lens whose result a lens reads through; empty if it needs none. Raises: UnknownName."""
    return _needs(name).fit


def obstacles_of(name: str, model: LanguageModel) -> tuple[Obstacle, ...]:
    """Why a lens cannot look at this model, and what to load; empty if it can.

    Raises:
        UnknownName: there is no such lens.
    """
    needs, name_of = _needs(name), f"{model.info.name} ({model.info.architecture})"
    if needs.fit:
        return obstacles_of(needs.fit, model)
    if needs.network == "backpack" and not model.info.has_senses:
        return (Obstacle(f"It needs a Backpack; {model.info.name} has no senses.", "Load embedded-backpack."),)
    if needs.experts and not model.info.n_experts:
        return (Obstacle(f"It reads a router, and {name_of} has no experts with an address.", "Load a mixture of experts."),)
    if needs.network != "bridge":
        return ()
    if model.info.has_senses:
        return (Obstacle(f"It runs on TransformerLens's bridge, which {model.info.name} lacks.", "Load embedded or another such model."),)
    if model.info.unseen:
        return (Obstacle(model.info.unseen, "Edits work all the same; for this lens load embedded or another model."),)
    reason = _lacking(needs, model, name_of)
    return (Obstacle(reason, "docs/families.md lists the lenses that run on this family; edits do not depend on them."),) if reason else ()


def require(name: str, model: LanguageModel) -> None:
    """Refuse a model that a lens cannot look at.

    Raises:
        Obstructed: the message names the obstacles. UnknownName: there is no such lens.
    """
    found = obstacles_of(name, model)
    if found:
        raise Obstructed(" ".join(item.reason for item in found), " ".join(item.hint for item in found))


def _lacking(needs: LensNeeds, model: LanguageModel, name_of: str) -> str:
    """What the blocks lack that the lens reads; empty if nothing."""
    info = model.info
    if needs.apart and info.parallel_blocks:
        return f"Edges are read head by head; {name_of} has parallel blocks."
    if needs.apart and not _heads_add_up(model):
        return f"Edges are read head by head; in {name_of} a norm stands between the heads and the stream."
    if needs.writes and not _heads_add_up(model):
        return f"It reads what each head writes; in {name_of} a norm stands between the heads and the stream."
    for hook in needs.hooks:
        without = [layer for layer in range(info.n_layers) if f"blocks.{layer}.{hook}" not in model.bridge_hooks]
        if len(without) > (info.n_layers - 1 if needs.some else 0):
            where = "any layer" if len(without) == info.n_layers else f"layer {', '.join(map(str, without[:6]))}"
            return f"It reads {hook} in {'a' if needs.some else 'every'} layer, and {name_of} shows none in {where}."
    if needs.sums and not info.adds_up:
        return f"It takes the stream apart, and in {name_of} what attention and MLP return is not all that joins it."
    return getattr(importlib.import_module(needs.module), needs.asks)(model) if needs.asks else ""


def _heads_add_up(model: LanguageModel) -> bool:
    """Whether the matrix that heads write through is the last thing before the stream, wherever both have an address."""
    known = set(model.sites())
    for layer in range(model.info.n_layers):
        out, matrix = Site("attn_out", layer), Site("w_o", layer)
        if {out, matrix} <= known and model.weight(matrix).module not in set(model.point(out).module.modules()):
            return False
    return True


def _needs(name: str) -> LensNeeds:
    if name not in _LENSES:
        raise UnknownName("lens", name, _LENSES)
    return _LENSES[name]
