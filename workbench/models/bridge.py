"""Models loaded through TransformerLens: a plain Hugging Face module that runs, and a bridge over a twin that shares its weights.

The hooked tree of a bridge costs about twice the time of the plain module, and its hooks are global on it. So everything that Retouch runs
itself goes through the plain module, with hooks on just the sites in use; the bridge tells which module stands behind which site, and
serves the lenses of TransformerLens. Both trees hold the *same* parameters: an element written to one is written to the other.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, final

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers.cache_utils import DynamicCache, DynamicLayer

from workbench.errors import ModelUnavailable
from workbench.models.backpack.cache import GrowingRows
from workbench.models.base import LanguageModel, ModelInfo, WeightSlot, fingerprint_of
from workbench.models.hooks import Point, columns_of
from workbench.models.tokens import TokenBatch
from workbench.operations import CACHES
from workbench.shapes import Float, Int, Logits, Tensor
from workbench.sites import LAYER_ACTIVATIONS, Site
from workbench.sites import site as site_of

# Where a component of the bridge keeps the weight of a site: (component within a block, part of a fused matrix).
_BLOCK_WEIGHTS = {"w_q": ("attn", "q"), "w_k": ("attn", "k"), "w_v": ("attn", "v"), "w_o": ("attn", "o")}
_MLP_WEIGHTS = {"w_gate": ("mlp", "gate"), "w_in": ("mlp", "in"), "w_out": ("mlp", "out")}


@final
class BridgeModel(LanguageModel):
    """A Hugging Face causal language model with TransformerLens's names."""

    def __init__(self, network: Any, tokenizer: Any, *, source: str, name: str, revision: str = "") -> None:
        """Wrap a loaded Hugging Face model; `source` is the folder or hub id that its config came from.

        Raises:
            ModelUnavailable: TransformerLens has no adapter for the architecture, or the network takes no cache that we know.
        """
        super().__init__()
        self._network: Any = network.eval().requires_grad_(False)
        self._cache_name = _cache_name(network)
        self.tokenizer = tokenizer
        self.bridge = _bridge_over_twin(network, tokenizer, source)
        self._components: dict[str, Any] = dict(self.bridge.adapter.component_mapping)
        self._blocks: nn.ModuleList = network.get_submodule(self._components["blocks"].name)
        self._tables = _tables(network)
        self.info = self._facts(name)
        self.fingerprint = fingerprint_of(network, name, revision)
        self._sites = tuple(self._all_sites())

    @property
    def network(self) -> nn.Module:
        return self._network

    def sites(self) -> tuple[Site, ...]:
        return self._sites

    def point(self, site: Site) -> Point:
        self.width(site)
        if site.kind == "ln_final":
            return Point(self._named("ln_final"), "out")
        block = self._blocks[site.layer or 0]
        parts: dict[str, Any] = self._components["blocks"].submodules
        if site.kind in ("resid_pre", "resid_post"):
            return Point(block, "in" if site.kind == "resid_pre" else "out")
        if site.kind == "head_z":
            return Point(self._inside(block, "attn", "o"), "in", columns_of(site.head, self.info.d_head))
        if site.kind == "mlp_post":
            return Point(self._inside(block, "mlp", "out"), "in")
        part, post_norm = ("attn", "ln1_post") if site.kind == "attn_out" else ("mlp", "ln2_post")
        # With a norm after the branch (Gemma 2), what is added to the stream is the norm's output.
        return Point(block.get_submodule(parts[post_norm if post_norm in parts else part].name), "out")

    def weight(self, site: Site | str) -> WeightSlot:
        address = site_of(site)
        if address.kind == "param":
            return self.raw_parameter(address)
        self.require(address, [item for item in self._sites if item.is_weight])
        if address.kind in ("w_e", "w_pos", "w_u"):
            component = {"w_e": "embed", "w_pos": "pos_embed", "w_u": "unembed"}[address.kind]
            module, is_table = self._named(component), address.kind != "w_u"
            return WeightSlot(module.weight, self._path(module), module, is_table=is_table)
        return self._block_weight(address)

    def run(self, batch: TokenBatch, cache: Any = None, *, last_only: bool = False) -> tuple[Logits, Any]:
        positions = (batch.mask.long().cumsum(-1) - 1).clamp_min(0)[:, -batch.ids.shape[1] :]
        out = self._network(
            input_ids=batch.ids,
            attention_mask=batch.mask.long(),
            position_ids=positions,
            use_cache=cache is not None,
            logits_to_keep=1 if last_only else 0,
            **{self._cache_name: cache},
        )
        return out.logits, cache  # which has grown in place

    def new_cache(self) -> Any:
        cache: Any = DynamicCache(config=self._network.config)
        cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self._blocks)

    def selected(self, cache: Any, rows: Int[Tensor, " chosen"]) -> Any:
        chosen = copy.copy(cache)
        chosen.layers = [copy.copy(layer) for layer in cache.layers]
        chosen.batch_select_indices(rows)
        return chosen

    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        logits = self._named("unembed")(self._named("ln_final")(resid))
        cap = getattr(self._network.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    # ── how the addresses resolve ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _facts(self, name: str) -> ModelInfo:
        cfg, hf = self.bridge.cfg, self._network.config
        tied = self._named("embed").weight is self._named("unembed").weight
        return ModelInfo(
            name=name,
            architecture=(hf.architectures or [type(self._network).__name__])[0],
            n_layers=cfg.n_layers,
            n_heads=cfg.n_heads,
            n_key_value_heads=cfg.n_key_value_heads or cfg.n_heads,
            d_model=cfg.d_model,
            d_head=cfg.d_head,
            d_mlp=_in_features(self._inside(self._blocks[0], "mlp", "out")),
            d_vocab=self._named("unembed").weight.shape[0],
            n_ctx=cfg.n_ctx,
            n_parameters=sum(p.numel() for p in self._network.parameters()),
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            tied_embeddings=tied,
            parallel_blocks="Parallel" in type(self._components["blocks"]).__name__,
        )

    def _all_sites(self) -> list[Site]:
        found: list[Site] = []
        for layer in range(self.info.n_layers):
            found += [Site(kind, layer) for kind in LAYER_ACTIVATIONS]
            found += [Site(kind, layer) for kind in (*_BLOCK_WEIGHTS, *_MLP_WEIGHTS) if self._has_weight(kind, layer)]
        found += [Site("ln_final"), Site("w_e"), Site("w_u")]
        return found + ([Site("w_pos")] if "pos_embed" in self._components else [])

    def _named(self, component: str) -> Any:
        return self._network.get_submodule(self._components[component].name)

    def _inside(self, block: nn.Module, part: str, sub: str) -> Any:
        component = self._components["blocks"].submodules[part]
        return block.get_submodule(component.name).get_submodule(component.submodules[sub].name)

    def _has_weight(self, kind: str, layer: int) -> bool:
        part, sub = (_BLOCK_WEIGHTS | _MLP_WEIGHTS)[kind]
        component = self._components["blocks"].submodules[part]
        if sub not in component.submodules:
            return False
        module = self._blocks[layer].get_submodule(component.name)
        name = component.submodules[sub].name
        return hasattr(module, name) or (sub in "qkv" and _fused_name(component) is not None)

    def _block_weight(self, site: Site) -> WeightSlot:
        part, sub = (_BLOCK_WEIGHTS | _MLP_WEIGHTS)[site.kind]
        component, block = self._components["blocks"].submodules[part], self._blocks[site.layer or 0]
        holder = block.get_submodule(component.name)
        name, columns = component.submodules[sub].name, None
        if not hasattr(holder, name):
            name = str(_fused_name(component))
            columns = _fused_columns(name, sub, self.info).to(self.device)
        module = holder.get_submodule(name)
        parameter: Any = module.weight
        return WeightSlot(parameter, self._path(module), module, type(module).__name__ == "Conv1D", columns)

    def _path(self, module: nn.Module) -> str:
        return self._tables[id(module)] + ".weight"


class _GrowingLayer(DynamicLayer):
    """Keys and values in buffers that double: transformers copies the whole cache for every token, which six lanes pay six times."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._rows = (GrowingRows(dim=2), GrowingRows(dim=2))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self._rows
        self.keys, self.values = keys.append(key_states), values.append(value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.keys is not None and self.values is not None:
            kept = self.keys[indices], self.values[indices]
            self._rows = (GrowingRows(dim=2), GrowingRows(dim=2))
            self.keys, self.values = (rows.append(part) for rows, part in zip(self._rows, kept))


def _bridge_over_twin(network: Any, tokenizer: Any, source: str) -> Any:
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    twin.set_attn_implementation("eager")  # attention patterns are not computed otherwise
    try:
        return TransformerBridge.boot_transformers(
            source, hf_model=twin, tokenizer=tokenizer, device=str(network.device), dtype=network.dtype
        )
    except (ValueError, KeyError, NotImplementedError, AttributeError) as error:
        raise ModelUnavailable(
            f"TransformerLens cannot bridge {type(network).__name__}: {error}",
            "Choose a model of a supported family: GPT-2, GPT-NeoX/Pythia, Llama, Qwen, Gemma, Mistral.",
        ) from error


def _cache_name(network: nn.Module) -> str:
    """What the network's forward calls its cache."""
    names = inspect.signature(network.forward).parameters
    found = [name for name in CACHES if name in names]
    if not found:
        raise ModelUnavailable(
            f"{type(network).__name__}.forward takes its cache under none of the names {', '.join(CACHES)}.",
            "Install the transformers version that requirements.txt names.",
        )
    return found[0]


def _tables(network: nn.Module) -> dict[int, str]:
    return {id(module): path for path, module in network.named_modules()}


def _in_features(module: Any) -> int:
    return int(module.weight.shape[0] if type(module).__name__ == "Conv1D" else module.weight.shape[1])


def _fused_name(component: Any) -> str | None:
    fused = component.submodules.get("qkv")
    name = None if fused is None else str(fused.name)
    return name if name in ("c_attn", "query_key_value", "qkv_proj") else None


def _fused_columns(name: str, part: str, info: ModelInfo) -> Int[Tensor, " out"]:
    """Output columns of q, k or v in a fused matrix (docs/methods/shared.md §5)."""
    index = "qkv".index(part)
    if name == "query_key_value":  # GPT-NeoX interleaves: head by head q, k, v
        start = torch.arange(info.n_heads)[:, None] * 3 * info.d_head + index * info.d_head
        return (start + torch.arange(info.d_head)).reshape(-1)
    sizes = [info.n_heads * info.d_head, info.n_key_value_heads * info.d_head, info.n_key_value_heads * info.d_head]
    return torch.arange(sum(sizes[:index]), sum(sizes[: index + 1]))
