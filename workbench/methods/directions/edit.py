"""The edit that takes one direction out of everything written to the residual stream, or adds it once.

Ref: docs/methods/directions.md §2.3; arXiv 2406.11717. Law (ablate): x ← x − s · r̂ r̂ᵀ x at the embedding and at every attention and
MLP output; at s = 1 the stream has r̂ᵀ x = 0 everywhere, and every s equals W ← W − s · r̂ r̂ᵀ W of what writes to it.
Law (add): x ← x + s · c · r at the input of one block.
Differs: the released code also projects at every block's input, which is the same at s = 1 and compounds otherwise; so do we behind
layers that write by more than attention and one MLP (a state-space mixer), whose parts have no address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import nn

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.edits.engine import applied
from workbench.errors import CorruptEdit, UnsupportedExport
from workbench.methods.shared.adapters import matrix_of
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, LowRank, Operation, TransformAt, wide
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

Transform = Callable[[Activations], Activations]
# A damaged number of layers would be as many operations.
_MOST_LAYERS = 10_000


@edit_kind("direction")
@final
@dataclass(frozen=True)
class DirectionEdit(Edit):
    """Ablate a unit direction everywhere, or add a vector at one block's input.

    `facts`: mode (ablate or add), layer, n_layers, tied (embedding shared with the unembedding), and perhaps whole: layers that write by
    more than attention and one MLP (state-space and hybrid ones), where the stream behind the block is projected instead; unfoldable: why
    no change of weights equals it.
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
        if facts["mode"] == "ablate" and not 0 < int(facts["n_layers"]) <= _MOST_LAYERS:
            text = f"The direction edit was made in a network of {str(facts['n_layers'])[:40]} layers; it has 1 to {_MOST_LAYERS:,}."
            raise CorruptEdit(text, "Restore the folder from a copy.")
        return cls(header, tensors["direction"])

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """r̂, normalised in float32 or wider."""
        full = self.direction.double()
        return full / full.norm()

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
        reason = _not_a_change_of_weights(self.header) or str(self.header.facts.get("unfoldable", ""))
        checkpoint: Possible | Refused = Refused(reason) if reason else Possible()
        peft = Refused("It also changes embeddings and biases, which a low-rank adapter cannot.")
        return {"checkpoint": checkpoint, "peft": peft, "script": Possible(), "report": Possible()}

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        reason = _not_a_change_of_weights(self.header) or unfoldable(model, self.unit, self.dosed(1.0))
        if reason:
            raise UnsupportedExport(reason, "Export it as a script.")
        return folded_ablation(model, self.unit, self.dose)


def _not_a_change_of_weights(header: Header) -> str:
    """Why no change of weights equals the edit, by what it is; empty if nothing is in the way."""
    if header.facts["mode"] == "add":
        return "It adds to a block's input, where no bias of the file format acts on all architectures alike."
    if header.facts.get("whole"):
        return "Some layers write by more than attention and one MLP, and are ablated as a whole."
    return "The embedding table is also the unembedding, which the ablation must not change." if header.facts.get("tied", True) else ""


def settled(model: LanguageModel, edit: DirectionEdit) -> DirectionEdit:
    """The same edit, which says whether it folds into the model's weights."""
    reason = "" if _not_a_change_of_weights(edit.header) else unfoldable(model, edit.unit, edit)
    return replace(edit, header=replace(edit.header, facts={**edit.header.facts, "unfoldable": reason})) if reason else edit


@torch.no_grad()
def unfoldable(model: LanguageModel, unit: Float[Tensor, " d_model"], edit: DirectionEdit) -> str:
    """Why ablating what matrices and tables give does not ablate what joins the stream, found by running both; empty if it does.

    A norm behind a branch, a norm behind the embedding, experts and senses stand between.
    """
    if model.info.has_senses:
        return f"{model.info.name} has senses between its table and the stream, so no weight equals the ablation."

    def project(_: nn.Module, __: Tensor, y: Tensor) -> Tensor:
        return _without(y, unit, 1.0)

    ids = torch.linspace(0, model.info.d_vocab - 1, 8).long().tolist()
    batch = TokenBatch.of([ids], None, model.device)
    with model.intercepts([], [(site, project) for site in _writers(model)]):
        folded = model.logits(batch).double().log_softmax(-1)
    with applied(model, edit):
        wanted = model.logits(batch).double().log_softmax(-1)
    apart = float((folded - wanted).abs().max())
    # Rounding of one forward, as exports allow it.
    if apart <= {torch.float64: 1e-8, torch.float32: 1e-3}.get(model.dtype, 0.1):
        return ""
    return f"Something stands between its matrices and the stream (a norm, experts): weights ablated so differ by {apart:.2g} nats."


def _writers(model: LanguageModel) -> list[Site]:
    """The matrices and tables that write to the stream."""
    return [site for site in model.sites() if site.kind in ("w_e", "w_pos", "w_o", "w_out")]


def folded_ablation(model: LanguageModel, unit: Float[Tensor, " d_model"], dose: float) -> tuple[AddToWeight, ...]:
    """−dose · r̂ r̂ᵀ W for every matrix, table and bias that writes to the residual stream; exact where `unfoldable` is empty."""
    found: list[AddToWeight] = []
    for site in _writers(model):
        slot = model.weight(site)
        if site.kind in ("w_e", "w_pos"):
            table = slot.parameter.detach().double()
            found.append(AddToWeight(site, (-dose * torch.outer(table @ unit, unit)).float()))
            continue
        row = (unit @ matrix_of(slot).double())[None]
        found.append(AddToWeight(site, LowRank(row.float(), unit[:, None].float(), -dose)))
        bias: nn.Parameter | None = getattr(slot.module, "bias", None)
        if bias is not None:
            name = slot.parameter_name.removesuffix("weight") + "bias"
            delta = -dose * (bias.detach().double() @ unit) * unit
            found.append(AddToWeight(Site("param", name=name), delta.float()))
    return tuple(found)


def _without(x: Float[Tensor, "*token d_model"], unit: Float[Tensor, " d_model"], share: float) -> Float[Tensor, "*token d_model"]:
    z = wide(x)
    r = unit.to(z.dtype)
    return (z - share * (z @ r)[..., None] * r).type_as(x)


def _ablated(unit: Tensor, share: float) -> Transform:
    def ablate(x: Activations) -> Activations:
        return _without(x, unit, share)

    return ablate


def _added(vector: Tensor) -> Transform:
    def add(x: Activations) -> Activations:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide + vector.to(wide.dtype)).type_as(x)

    return add
