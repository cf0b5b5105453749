"""Fold deltas into a copy of a network's parameters, and adapters into the files that PEFT reads."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from workbench.errors import UnsupportedExport
from workbench.models.base import LanguageModel, WeightSlot
from workbench.operations import AddToWeight, LowRank, add_delta
from workbench.shapes import Tensor


@torch.no_grad()
def folded_network(model: LanguageModel, deltas: Sequence[AddToWeight]) -> Any:
    """Return a copy of the model's network with the deltas added; tables shared by both ends are taken apart if need be.

    Added in float64 and rounded once.
    """
    network: Any = copy.deepcopy(model.network)
    ends = [model.weight(kind) for kind in ("w_e", "w_u")]
    shared = {id(end.parameter) for end in ends}
    apart = model.info.tied_embeddings and any(op.site.kind != "param" and id(model.weight(op.site).parameter) in shared for op in deltas)
    if apart:
        _untie(model, network)
    sums: dict[str, Tensor] = {}
    for op in deltas:
        slot = model.weight(op.site)
        # A parameter that both ends share moves at both, also where another delta takes them apart.
        both = apart and op.site.kind == "param" and id(slot.parameter) in shared
        for name in {end.parameter_name for end in ends} if both else (slot.parameter_name,):
            total = sums.setdefault(name, torch.zeros_like(slot.parameter, dtype=torch.float64))
            add_delta(total, op.delta, transposed=slot.is_transposed, columns=slot.columns)
    for name, total in sums.items():
        parameter = network.get_parameter(name)
        parameter.requires_grad_(False)
        # In place, so that whoever shares the parameter goes along.
        parameter.copy_((parameter.double() + total).to(parameter.dtype))
    return network


def _untie(model: LanguageModel, network: Any) -> None:
    """Give the unembedding a table of its own, and say so in the config."""
    if model.info.has_senses:
        raise UnsupportedExport(
            "The embeddings of a Backpack are shared by definition; this edit changes one end only.", "Export the report."
        )
    module = network.get_submodule(model.weight("w_u").parameter_name.rpartition(".")[0])
    module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
    network.config.tie_word_embeddings = False
    network.all_tied_weights_keys = {}


def write_adapter(model: LanguageModel, deltas: Sequence[AddToWeight], folder: Path) -> None:
    """Write low-rank deltas as a LoRA adapter in PEFT's format.

    Scales are folded into B, so that alpha equals the rank. Several deltas of one matrix stack their ranks; a part of a
    fused matrix gets a B that is zero elsewhere.

    Raises:
        UnsupportedExport: a delta is not low-rank, or not of a matrix that maps activations.
    """
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    transposed = False
    for name, parts in _by_module(model, deltas).items():
        a = torch.cat([low.a.float() for low, _ in parts])
        b = torch.cat([_whole_output(low, slot) for low, slot in parts], 1)
        ranks[name] = a.shape[0]
        transposed |= parts[0][1].is_transposed
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.info.name,
        "inference_mode": True,
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(ranks),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _by_module(model: LanguageModel, deltas: Sequence[AddToWeight]) -> dict[str, list[tuple[LowRank, WeightSlot]]]:
    found: dict[str, list[tuple[LowRank, WeightSlot]]] = {}
    for op in deltas:
        slot = model.weight(op.site)
        if not isinstance(op.delta, LowRank) or slot.is_table or op.site.kind == "w_u":
            raise UnsupportedExport(
                f"The delta at {op.site} is not a low-rank change of a matrix inside the blocks.", "Export a checkpoint."
            )
        found.setdefault(slot.parameter_name.removesuffix(".weight"), []).append((op.delta, slot))
    return found


def _whole_output(low: LowRank, slot: WeightSlot) -> Tensor:
    n_out = slot.parameter.shape[1 if slot.is_transposed else 0]
    whole = torch.zeros(n_out, low.b.shape[1])
    add_delta(whole, low.scale * low.b.float().cpu(), columns=None if slot.columns is None else slot.columns.cpu())
    return whole
