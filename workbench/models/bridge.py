"""Models loaded through TransformerLens: a plain Hugging Face module that runs, and a bridge over a twin that shares its weights.

The hooked tree of a bridge costs about twice the time of the plain module, and its hooks are global on it. So everything that Retouch runs
itself goes through the plain module, with hooks on just the sites in use; the bridge tells which module stands behind which site, and
serves the lenses of TransformerLens. Both trees hold the *same* parameters: an element written to one is written to the other.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge

from workbench.errors import BadSite, ModelUnavailable, UnknownSite
from workbench.models import caches
from workbench.models.base import LanguageModel, ModelInfo, WeightSlot
from workbench.models.devices import quantised_as
from workbench.models.fingerprints import fingerprint_of, weight_files
from workbench.models.hooks import Point, columns_of, make_stoppable
from workbench.models.layout import Layout
from workbench.models.load_check import FOREIGN, Seen, apart, bridge_hooks, cache_fault, first_look, one_line, rounding, short_batch
from workbench.models.tokens import TokenBatch
from workbench.shapes import Float, Int, Logits, Tensor
from workbench.sites import EXPERT, LAYER_ACTIVATIONS, LAYER_WEIGHTS, Site, in_order
from workbench.sites import site as site_of


@final
class BridgeModel(LanguageModel):
    """A Hugging Face causal language model with TransformerLens's names."""

    def __init__(self, network: Any, tokenizer: Any, *, source: str, name: str, revision: str = "", noted: Path | None = None) -> None:
        """Wrap a loaded Hugging Face model; `source` is the folder or hub id that its config came from, `noted` as for `fingerprint_of`.

        Raises:
            ModelUnavailable: TransformerLens has no adapter for the architecture, or the network is none that Retouch can edit truly
                (`load_check.first_look`).
        """
        super().__init__()
        self._network: Any = network.eval().requires_grad_(False)
        self._cache_name = caches.cache_name(network)
        self._takes, self._masks_all = _taken(network), True
        self.tokenizer = tokenizer
        self.bridge = _bridge_over_twin(network, tokenizer, source)
        self._layout = Layout(network, dict(self.bridge.adapter.component_mapping))
        batch = short_batch(network.config.get_text_config().vocab_size, self.device)
        n_heads = int(self.bridge.cfg.n_heads or 0) if self._layout.attends else 0
        self._seen = first_look(self._layout, lambda tokens: self._out(tokens, output_hidden_states=True), batch, n_heads)
        self.entangled = self._seen.entangled
        self.info = self._facts(name, n_heads, self._seen)
        self._widths, self._slots = self._all_sites(self._seen)
        self._sites = in_order((*self._widths, *self._slots))
        self.info = replace(self.info, uncached=self._cache_fault(batch), unseen=self._look_through_bridge(batch))
        self.fingerprint = fingerprint_of(network, name, revision, files=weight_files(source, name, revision), noted=noted)
        make_stoppable((*self._layout.blocks, *self.bridge.blocks))

    @property
    def network(self) -> nn.Module:
        return self._network

    def sites(self) -> tuple[Site, ...]:
        return self._sites

    def point(self, site: Site) -> Point:
        self.width(site)
        if site.kind == EXPERT:
            return Point(self._seen.experts[site.layer or 0], "expert", expert=site.head or 0)
        found = self._seen.points[replace(site, head=None)]
        return found if site.head is None else replace(found, columns=columns_of(site.head, self.info.d_head))

    def width(self, site: Site | str) -> int:
        address = site_of(site)
        whole = address if address.kind == EXPERT else replace(address, head=None)
        if whole not in self._widths or (address.kind == "head_z" and (address.head or 0) >= self.info.n_heads):
            raise UnknownSite(str(address), [str(item) for item in self._widths])
        return self._widths[whole] if address.head is None or address.kind == EXPERT else self.info.d_head

    def weight(self, site: Site | str) -> WeightSlot:
        address = site_of(site)
        if address.kind == "param":
            return self.raw_parameter(address)
        if self.info.quantised and address not in self._slots:
            raise BadSite(
                f"{address} is kept in {self.info.quantised}, which takes no delta.",
                "Load the model in float32 or bfloat16 to edit weights; edits of activations work as they are.",
            )
        return self._slots[self.require(address, list(self._slots))]

    def run(self, batch: TokenBatch, cache: Any = None, *, last_only: bool = False) -> tuple[Logits, Any]:
        return self._out(batch, cache, logits_to_keep=1 if last_only else 0).logits, cache  # which has grown in place

    def _out(self, batch: TokenBatch, cache: Any = None, **more: Any) -> Any:
        positions = (batch.mask.long().cumsum(-1) - 1).clamp_min(0)[:, -batch.ids.shape[1] :]
        mask = batch.mask if self._masks_all else batch.mask[:, -batch.ids.shape[1] :]
        given = {"attention_mask": mask.long(), "position_ids": positions, **more}
        if self._cache_name is not None:
            given[self._cache_name] = cache
        known = {name: value for name, value in given.items() if self._takes is None or name in self._takes}
        return self._network(input_ids=batch.ids, use_cache=cache is not None, **known)

    def new_cache(self) -> Any:
        return None if self.info.uncached else caches.new_cache(self._network)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self._layout.blocks) if self._is_chain else ()

    def selected(self, cache: Any, rows: Int[Tensor, " chosen"]) -> Any:
        return caches.selected(cache, rows)

    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        config = self._network.config
        logits = self._layout.named("unembed")(self._layout.named("ln_final")(resid))
        logits = logits * getattr(config, "logit_scale", None) if getattr(config, "logit_scale", None) else logits
        logits = logits / config.logits_scaling if getattr(config, "logits_scaling", None) else logits
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    # ── what the load check says ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _cache_fault(self, batch: TokenBatch) -> str:
        if self._cache_name is None:
            return f"{type(self._network).__name__} takes none of transformers' caches."

        def step(tokens: TokenBatch, cache: Any, n_before: int) -> Tensor:
            return self._out(tokens.after(n_before), cache).logits[:, -1]

        faults: list[str] = []
        for self._masks_all in (True, False):  # state-space models want the mask of the new tokens alone
            faults.append(cache_fault(step, lambda: caches.new_cache(self._network), batch, self._seen.logits[:, -1]))
            if not faults[-1]:
                return ""
        self._masks_all = True
        return faults[0]

    def _look_through_bridge(self, batch: TokenBatch) -> str:
        """Note which hook points TransformerLens's tree has, and say why it cannot be used, if so."""
        with torch.no_grad():
            read_out = apart(self.unembed(self._seen.streams[-1].to(self.device)), self._seen.logits)
        self._is_chain = self._seen.is_chain and not self.info.uncached and read_out <= rounding(self._seen.logits)
        streams = [stream[:1] for stream in self._seen.streams]
        self.bridge_hooks, fault = bridge_hooks(self.bridge, batch.ids[:1], streams, self.info.n_heads)
        if not fault and read_out > rounding(self._seen.logits):
            fault = "something stands between the final norm and the logits that a lens would leave out"
        return fault and f"TransformerLens's bridge cannot be used on {type(self._network).__name__}: {fault}."

    # ── what the model is ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _facts(self, name: str, n_heads: int, seen: Seen) -> ModelInfo:
        cfg, hf = self.bridge.cfg, self._network.config
        heads = next((width // n_heads for site, width in seen.widths.items() if site.kind == "head_z"), 0)
        return ModelInfo(
            name=name,
            architecture=(hf.architectures or [type(self._network).__name__])[0],
            n_layers=len(self._layout.blocks),
            n_heads=n_heads,
            n_key_value_heads=(cfg.n_key_value_heads or n_heads) if n_heads else 0,
            d_model=seen.widths[Site("resid_post", 0)],
            d_head=heads or (cfg.d_head if n_heads else 0),
            d_mlp=next((width for site, width in seen.widths.items() if site.kind == "mlp_post"), 0),
            d_vocab=seen.logits.shape[-1],
            n_ctx=cfg.n_ctx,
            n_parameters=self._network.num_parameters(),  # where four bits are packed in one number, all of them
            dtype=quantised_as(self._network) or str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            tied_embeddings=self._layout.named("embed").weight is self._layout.named("unembed").weight,
            parallel_blocks=self._layout.is_parallel,
            n_experts=max((_n_experts(module) for module in seen.experts.values()), default=0),
            adds_up=seen.adds_up,
            quantised=quantised_as(self._network),
        )

    def _all_sites(self, seen: Seen) -> tuple[dict[Site, int], dict[Site, WeightSlot]]:
        widths, slots = dict[Site, int](), dict[Site, WeightSlot]()

        def add_weights(sites: Sequence[Site]) -> None:
            slots.update({site: slot for site in sites if (slot := self._layout.slot(site)) is not None})

        all_heads = self.info.n_heads * self.info.d_head
        for layer in range(self.info.n_layers):
            found = {site: seen.widths[site] for kind in LAYER_ACTIVATIONS if (site := Site(kind, layer)) in seen.widths}
            # Layers whose heads have another width (Gemma 4) have no heads that could be compared with the others'.
            widths |= {site: width for site, width in found.items() if site.kind != "head_z" or width == all_heads}
            if layer in seen.experts:
                widths |= {Site(EXPERT, layer, expert): self.info.d_model for expert in range(_n_experts(seen.experts[layer]))}
            add_weights([Site(kind, layer) for kind in LAYER_WEIGHTS])
        add_weights([Site("w_e"), Site("w_u"), Site("w_pos")])
        return widths | {Site("ln_final"): seen.widths[Site("ln_final")]}, slots


def _bridge_over_twin(network: Any, tokenizer: Any, source: str) -> Any:
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    twin.set_attn_implementation("eager")  # attention patterns are not computed otherwise
    _as_looked_for(twin)
    try:
        return TransformerBridge.boot_transformers(
            source, hf_model=twin, tokenizer=tokenizer, device=str(network.device), dtype=network.dtype
        )
    except FOREIGN as error:
        raise ModelUnavailable(
            f"TransformerLens cannot bridge {type(network).__name__}: {one_line(error)}",
            "Choose a model of a family that docs/families.md lists as loading.",
        ) from error


def _as_looked_for(twin: Any) -> None:
    """Put what TransformerLens 4.3 looks for in CodeGen's attention there; transformers 5 keeps it once, beside the blocks."""
    for module in twin.modules():
        if type(module).__name__ == "CodeGenAttention" and not hasattr(module, "embed_positions"):
            module.embed_positions = twin.transformer.rotary_emb.embed_positions
            module.scale_attn = 1 / module.scaling


def _taken(network: nn.Module) -> set[str] | None:
    """Names of the arguments that the network's forward takes; None for any."""
    parameters = inspect.signature(network.forward).parameters
    takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    return None if takes_any else set(parameters)


def _n_experts(module: nn.Module) -> int:
    """How many experts a module runs, by what it says or by its stacked matrices."""
    told = getattr(module, "num_experts", None)
    stacked = [p.shape[0] for p in module.parameters(recurse=False) if p.ndim == 3]
    return int(told if isinstance(told, int) else stacked[0] if stacked else 0)
