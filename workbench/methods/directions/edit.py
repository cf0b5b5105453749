"""The edit that takes one direction out of everything written to the residual stream, or adds it once.

Ref: docs/methods/directions.md §2.3; arXiv 2406.11717. Law (ablate): x ← x − s · r̂ r̂ᵀ x at the embedding and at every attention and
MLP output; at s = 1 the stream has r̂ᵀ x = 0 everywhere, and every s equals W ← W − s · r̂ r̂ᵀ W of what writes to it.
Law (add): x ← x + s · c · r at the input of one block.
Differs: the released code also projects at every block's input, which is the same at s = 1 and compounds otherwise; so do we behind
layers that write by more than attention and one MLP (a state-space mixer), whose parts have no address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import nn

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit, UnsupportedExport
from workbench.methods.shared.adapters import matrix_of
from workbench.models.base import LanguageModel
from workbench.operations import AddToWeight, LowRank, Operation, TransformAt
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

Transform = Callable[[Activations], Activations]


@edit_kind("direction")
@final
@dataclass(frozen=True)
class DirectionEdit(Edit):
    """Ablate a unit direction everywhere, or add a vector at one block's input.

    `facts`: mode (ablate or add), layer, n_layers, tied (embedding shared with the unembedding), and perhaps whole: layers that write by
    more than attention and one MLP (state-space and hybrid ones), where the stream behind the block is projected instead.
    """

    direction: Float[Tensor, " d_model"]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"direction": self.direction}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        facts = header.facts
        if set(tensors) != {"direction"} or tensors["direction"].ndim != 1:
            raise CorruptEdit(f"A direction edit has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        if facts.get("mode") not in ("ablate", "add") or not {"layer", "n_layers"} <= set(facts):
            raise CorruptEdit("The direction edit does not say how and where it acts.", "Restore the folder from a copy.")
        return cls(header, tensors["direction"])

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """r̂, normalised in float32 or wider."""
        wide = self.direction.double()
        return wide / wide.norm()

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        width = self.direction.numel()
        if self.header.facts["mode"] == "add":
            return (TransformAt(Site("resid_pre", int(self.header.facts["layer"])), _added(dose * self.direction), width),)
        fn = _ablated(self.unit, dose)
        writers = [Site("resid_pre", 0)]
        for layer in range(int(self.header.facts["n_layers"])):
            whole = layer in self.header.facts.get("whole", ())
            writers += [Site("resid_post", layer)] if whole else [Site("attn_out", layer), Site("mlp_out", layer)]
        return tuple(TransformAt(site, fn, width) for site in writers)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        checkpoint: Possible | Refused = Possible()
        if self.header.facts.get("whole"):
            checkpoint = Refused("Some layers write by more than attention and one MLP, and are ablated as a whole.")
        if self.header.facts["mode"] == "add":
            checkpoint = Refused("It adds to a block's input, where no bias of the file format acts on all architectures alike.")
        elif self.header.facts.get("tied", True):
            checkpoint = Refused("The embedding table is also the unembedding, which the ablation must not change.")
        peft = Refused("It also changes embeddings and biases, which a low-rank adapter cannot.")
        return {"checkpoint": checkpoint, "peft": peft, "script": Possible(), "report": Possible()}

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        checkpoint = self.exports()["checkpoint"]
        if isinstance(checkpoint, Refused):
            raise UnsupportedExport(checkpoint.reason, "Export it as a script.")
        return folded_ablation(model, self.unit, self.dose)


def folded_ablation(model: LanguageModel, unit: Float[Tensor, " d_model"], dose: float) -> tuple[AddToWeight, ...]:
    """−dose · r̂ r̂ᵀ W for every matrix, table and bias that writes to the residual stream.

    Raises:
        UnsupportedExport: something stands between a weight and the stream (a norm, senses).
    """
    between = type(model.point(Site("attn_out", 0)).module).__name__
    if model.info.has_senses or "Norm" in between:
        what = "senses" if model.info.has_senses else f"a {between} behind each branch"
        raise UnsupportedExport(f"{model.info.name} has {what}, so no weight equals the ablation.", "Export it as a script.")
    found: list[AddToWeight] = []
    for site in model.sites():
        if site.kind in ("w_e", "w_pos"):
            table = model.weight(site).parameter.detach().double()
            found.append(AddToWeight(site, (-dose * torch.outer(table @ unit, unit)).float()))
        elif site.kind in ("w_o", "w_out"):
            slot = model.weight(site)
            row = (unit @ matrix_of(slot).double())[None]
            found.append(AddToWeight(site, LowRank(row.float(), unit[:, None].float(), -dose)))
            bias: nn.Parameter | None = getattr(slot.module, "bias", None)
            if bias is not None:
                name = slot.parameter_name.removesuffix("weight") + "bias"
                delta = -dose * (bias.detach().double() @ unit) * unit
                found.append(AddToWeight(Site("param", name=name), delta.float()))
    return tuple(found)


def _ablated(unit: Tensor, share: float) -> Transform:
    def ablate(x: Activations) -> Activations:
        wide = x if x.dtype == torch.float64 else x.float()
        r = unit.to(wide.dtype)
        return (wide - share * (wide @ r)[..., None] * r).type_as(x)

    return ablate


def _added(vector: Tensor) -> Transform:
    def add(x: Activations) -> Activations:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide + vector.to(wide.dtype)).type_as(x)

    return add
