"""Which module or matrix of a plain network stands behind an address, by the names that TransformerLens gives its parts.

Families differ in what a block holds: attention in every layer, in some or in none, an MLP in a module of its own, in the block itself, or
as a mixture of experts. What a block does not hold has no place here (None); nothing is guessed.
"""

from __future__ import annotations

import copy
from typing import Any, final

import torch
from torch import nn

from workbench.errors import ModelUnavailable
from workbench.models.base import WeightSlot
from workbench.models.hooks import Point
from workbench.shapes import Int, Tensor
from workbench.sites import Site

_HOLDERS = {"w_q": "attn", "w_k": "attn", "w_v": "attn", "w_o": "attn", "w_gate": "mlp", "w_in": "mlp", "w_out": "mlp"}
_TABLES = {"w_e": "embed", "w_pos": "pos_embed", "w_u": "unembed"}
# What TransformerLens calls the module that runs all experts of a layer; the families that it leaves out call it so too.
_EXPERTS = "experts"


@final
class Layout:
    """The parts of one network, found by TransformerLens's component mapping."""

    def __init__(self, network: Any, components: dict[str, Any]) -> None:
        """Look up the blocks.

        Raises:
            ModelUnavailable: the network is no single stack of blocks with an embedding, a final norm and an unembedding.
        """
        lacking = [name for name in ("embed", "blocks", "ln_final", "unembed") if name not in components]
        if lacking:
            raise ModelUnavailable(
                f"{type(network).__name__} is not one stack of blocks from an embedding to an unembedding (it has no {lacking[0]}).",
                "Choose a model of a family that docs/families.md lists as loading.",
            )
        self.network, self._components = network, components
        self.blocks: nn.ModuleList = network.get_submodule(components["blocks"].name)
        if not len(self.blocks):
            raise ModelUnavailable(
                f"{type(network).__name__} has no layers by its config, so there is nothing to edit.", "Check its config.json."
            )
        self._parts: dict[str, Any] = dict(components["blocks"].submodules)
        self._paths = {id(module): path for path, module in network.named_modules()}
        self._split: dict[tuple[str, int, int, torch.device], Int[Tensor, " out"]] = {}

    def named(self, component: str) -> Any:
        """The module of one of the parts outside the blocks."""
        return self.network.get_submodule(self._components[component].name)

    def has(self, component: str) -> bool:
        """Whether there is such a part outside the blocks."""
        return component in self._components

    @property
    def is_parallel(self) -> bool:
        """Whether attention and MLP of a block read the same stream."""
        return "Parallel" in type(self._components["blocks"]).__name__

    @property
    def attends(self) -> bool:
        """Whether any block has attention."""
        return any(self._part(block, "attn") is not None for block in self.blocks)

    # ── activations ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    def points(self, site: Site) -> tuple[Point, ...]:
        """Places at which a site may be read, the likeliest first (a forward tells which is right); none where the block lacks the part."""
        if site.kind == "ln_final":
            return (Point(self.named("ln_final"), "out"),)
        block = self.blocks[site.layer or 0]
        if site.kind in ("resid_pre", "resid_post"):
            return (Point(block, "in" if site.kind == "resid_pre" else "out"),)
        if site.kind in ("attn_out", "mlp_out"):
            part, post = ("attn", "ln1_post") if site.kind == "attn_out" else ("mlp", "ln2_post")
            last = "o" if part == "attn" else "out"
            # With a norm after the branch (Gemma 2) the norm's output joins the stream; where a branch adds the stream to what it returns
            # (Bloom), the output of its last matrix does.
            found = (self._part(block, post), self._holder(block, part), self._sub(block, part, last))
            return tuple(Point(module, "out") for module in found if module is not None and module is not block)
        part, last = ("attn", "o") if site.kind == "head_z" else ("mlp", "out")
        module = self._sub(block, part, last)
        return () if module is None else (Point(module, "in"),)

    def experts(self, layer: int) -> nn.Module | None:
        """The module that runs the experts of a layer, called with (tokens, indices, weights)."""
        holder = self._holder(self.blocks[layer], "mlp") or self._holder(self.blocks[layer], "moe")
        found = None if holder is None else getattr(holder, _EXPERTS, None)
        return found if isinstance(found, nn.Module) else None

    # ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    def slot(self, site: Site) -> WeightSlot | None:
        """The parameter behind a weight site; None where the layer has none of this kind."""
        if site.kind in _TABLES:
            if not self.has(_TABLES[site.kind]):
                return None
            module = self.named(_TABLES[site.kind])
            return WeightSlot(module.weight, self._path(module), module, is_table=site.kind != "w_u")
        part, sub = _HOLDERS[site.kind], site.kind.removeprefix("w_")
        block = self.blocks[site.layer or 0]
        module, columns = self._sub(block, part, sub), None
        if module is None and sub in ("q", "k", "v"):
            module, columns = self._fused(block, part, "qkv", "split_qkv_matrix", "qkv".index(sub))
        elif module is None and sub in ("gate", "in"):
            module, columns = self._fused(block, part, None, "split_gate_up_matrix", ("gate", "in").index(sub))
        weight: Any = None if module is None else getattr(module, "weight", None)
        if module is None or not isinstance(weight, nn.Parameter) or weight.ndim != 2 or not weight.is_floating_point():
            return None
        return WeightSlot(weight, self._path(module), module, type(module).__name__ == "Conv1D", columns)

    def _path(self, module: nn.Module) -> str:
        return self._paths[id(module)] + ".weight"

    # ── inside a block ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _part(self, block: nn.Module, part: str) -> nn.Module | None:
        component = self._parts.get(part)
        return None if component is None or component.name is None else _inside(block, component.name)

    def _holder(self, block: nn.Module, part: str) -> nn.Module | None:
        """The module of a part, the block itself where the part has no module of its own (OPT's MLP)."""
        component = self._parts.get(part)
        return block if component is not None and component.name is None else self._part(block, part)

    def _sub(self, block: nn.Module, part: str, sub: str) -> nn.Module | None:
        holder, component = self._holder(block, part), self._parts.get(part)
        if holder is None or component is None:
            return None
        known: dict[str, Any] = component.submodules
        # A mixture's `gate` is its router; the dense layers that some families put first have names of their own.
        wanted = (f"dense_{sub}",) if "MoE" in type(component).__name__ else (sub,)
        names = [str(known[name].name) for name in wanted if name in known]
        return _inside(holder, names[0]) if names else None

    def _fused(
        self, block: nn.Module, part: str, sub: str | None, split: str, index: int
    ) -> tuple[nn.Module | None, Int[Tensor, " out"] | None]:
        """A fused matrix and the output columns of one of its parts, asked of TransformerLens's own split."""
        component, holder = self._parts.get(part), self._holder(block, part)
        divide: Any = getattr(component, split, None)
        if component is None or holder is None or divide is None:
            return None, None
        name = "gate_up_proj" if sub is None else str(component.submodules[sub].name) if sub in component.submodules else ""
        module = _inside(holder, name) if name else None
        weight: Any = None if module is None else module.weight
        if module is None or weight.ndim != 2 or not weight.is_floating_point():
            return None, None
        key = (name, index, weight.numel(), weight.device)
        if key not in self._split:  # layers of one shape are split alike, and the numbers cost as much memory as the matrix
            self._split[key] = _columns(divide, holder, name, index).to(weight.device)
        return module, self._split[key]


def _inside(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a path, if it is there: hybrids have other parts in other layers."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
        if not isinstance(found, nn.Module):
            return None
    return found


def _columns(divide: Any, holder: nn.Module, name: str, index: int) -> Int[Tensor, " out"]:
    """Split a matrix that holds the number of each output column, and read which numbers the part got."""
    module: Any = holder.get_submodule(name)
    turned = type(module).__name__ == "Conv1D"
    n_out, n_in = module.weight.shape[::-1] if turned else module.weight.shape
    numbers = torch.arange(n_out, dtype=torch.float32)[:, None].expand(n_out, n_in).contiguous()
    twin, shell = copy.copy(module), copy.copy(holder)
    twin._parameters = dict(module._parameters)  # pyright: ignore[reportPrivateUsage]
    twin._parameters["weight"] = nn.Parameter(numbers.T.contiguous() if turned else numbers, requires_grad=False)  # pyright: ignore[reportPrivateUsage]
    shell._modules = dict(holder._modules) | {name: twin}  # pyright: ignore[reportPrivateUsage]
    part: Tensor = divide(shell)[index].weight.detach().flatten(1)
    across = bool((part == part[:, :1]).all())
    return (part[:, 0] if across else part[0]).round().long()
