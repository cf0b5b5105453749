"""The rotation edit: angles per (layer, head), applied by one hook a layer, folded exactly into the output projection.

Ref: docs/methods/tarot.md §2. Position-wise and input-independent: with a cache as without, padding and other rows do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit, ShapeMismatch, UnsupportedExport
from workbench.methods.shared.adapters import matrix_of
from workbench.models.base import LanguageModel, WeightSlot
from workbench.numerics.rotations import Variant, at_dose, mapping, matrices
from workbench.operations import AddToWeight, Operation, TransformAt
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

HEADS_KIND, MLP_KIND = "head_z", "mlp_out"


@edit_kind("rotation")
@final
@dataclass(frozen=True)
class RotationEdit(Edit):
    """Turn head outputs (or MLP outputs) by fixed angles.

    `angles` are float64, (layer, head, angle), the identity where nothing turns. `held` (layer, head, d_head) is the value bias that the
    convention `value_bias = excluded` holds still: z' = (z - b) R + b.
    """

    angles: Float[Tensor, "layer head angle"]
    held: Float[Tensor, "layer head d_head"] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Edited layers."""
        return tuple(self.header.facts["layers"])

    @property
    def variant(self) -> Variant:
        """Parametrisation of the angles."""
        return self.header.facts["variant"]

    @property
    def width(self) -> int:
        """Width that one row of angles turns: d_head, or d_model for `mlp`."""
        return int(self.header.facts["width"])

    def tensors(self) -> Mapping[str, Tensor]:
        return {"angles": self.angles} if self.held is None else {"angles": self.angles, "held": self.held}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        layers = header.facts.get("layers", ())
        angles, held = tensors.get("angles"), tensors.get("held")
        if angles is None or angles.ndim != 3 or angles.shape[0] != len(layers) or not set(tensors) <= {"angles", "held"}:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise CorruptEdit(f"A rotation edit of layers {list(layers)} has tensors {shapes}.", "Restore the folder from a copy.")
        if held is not None and held.shape[:2] != angles.shape[:2]:
            raise CorruptEdit(f"Angles {tuple(angles.shape)} and held bias {tuple(held.shape)} differ.", "Restore the folder from a copy.")
        return cls(header, angles, held)

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        angles = at_dose(self.variant, self.angles, dose)
        kind = MLP_KIND if self.variant == "mlp" else HEADS_KIND
        total = self.angles.shape[1] * self.width
        return tuple(
            TransformAt(Site(kind, layer), turner(self.variant, angles[i], None if self.held is None else self.held[i]), total)
            for i, layer in enumerate(self.layers)
        )

    def rotations(self) -> Float[Tensor, "layer head d d"]:
        """Return the matrices R of z' = z R at this edit's dose, float64."""
        return matrices(self.variant, at_dose(self.variant, self.angles, self.dose), self.width)

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        """Return deltas of the output projections (and biases) that equal the edit exactly: C_h -> C_h R_h^T.

        Ref: docs/methods/tarot.md §2.6. Products in float64.

        Raises:
            UnsupportedExport: a held value bias with no output bias to take it up; an MLP norm behind the projection.
        """
        found: list[AddToWeight] = []
        for rotation, held, layer in zip(self.rotations(), self.held if self.held is not None else [None] * len(self.layers), self.layers):
            found += _folded_mlp(model, layer, rotation[0]) if self.variant == "mlp" else _folded_heads(model, layer, rotation, held)
        return tuple(found)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        checkpoint: Possible | Refused = Possible()
        if not self.header.facts.get("addressed", True):
            checkpoint = Refused("What it turns is not written by one matrix that has an address (a mixture of experts).")
        elif self.held is not None and not self.header.facts.get("output_bias", False):
            checkpoint = Refused("The value bias is held still, and the output projection has no bias that could take it up.")
        elif self.header.facts.get("norm_follows", False):
            checkpoint = Refused("A norm follows the MLP's output projection, and it does not commute with a rotation.")
        return {
            "checkpoint": checkpoint,
            "peft": Refused("A rotation of all heads changes the output projection at full rank."),
            "script": Possible(),
            "report": Possible(),
        }


def turner(
    variant: Variant, angles: Float[Tensor, "... head angle"], held: Float[Tensor, "head d_head"] | None
) -> Callable[[Activations], Activations]:
    """Return the map of head outputs side by side (batch, pos, head * d_head) that turns every head by its angles.

    With angles (lane, head, angle) the batch is lane-major: its row group i turns by the angles of lane i.
    """
    n_heads = angles.shape[-2]
    if variant in ("rotary", "mlp") and angles.ndim == 2 and held is None:
        return mapping(variant, angles.flatten())  # heads side by side turn as one wide head
    act = mapping(variant, angles if angles.ndim == 2 else angles[:, None, None])

    def turn(x: Activations) -> Activations:
        per_head = x.view(*x.shape[:-1], n_heads, x.shape[-1] // n_heads)
        if angles.ndim == 3:
            per_head = per_head.view(angles.shape[0], -1, *per_head.shape[1:])
        if held is None:
            return act(per_head).view(x.shape)
        still = held.to(per_head)
        return (act(per_head - still) + still).view(x.shape)

    return turn


def value_bias(model: LanguageModel, layer: int) -> Float[Tensor, "head d_head"] | None:
    """Return the bias of the values, repeated over the query heads that share it; None where the model has none."""
    if layer not in model.layers_of("w_v"):  # latent attention makes values of a matrix that it shares with keys, and gives them no bias
        return None
    slot = model.weight(Site("w_v", layer))
    bias = getattr(slot.module, "bias", None)
    if not isinstance(bias, Tensor):
        return None
    own = bias.detach() if slot.columns is None else bias.detach()[slot.columns]
    info = model.info
    return own.view(info.n_key_value_heads, info.d_head).repeat_interleave(info.n_heads // info.n_key_value_heads, 0).clone()


def fold_facts(model: LanguageModel, layers: tuple[int, ...], variant: Variant) -> dict[str, Any]:
    """Return what `exports` has to know of the model."""
    if variant == "mlp":
        return {"addressed": set(layers) <= set(model.layers_of("w_out")), "norm_follows": any(_norm_follows(model, i) for i in layers)}
    addressed = set(layers) <= set(model.layers_of("w_o"))
    return {
        "addressed": addressed,
        "output_bias": addressed and all(_bias_site(model.weight(Site("w_o", layer))) is not None for layer in layers),
    }


def _folded_heads(
    model: LanguageModel, layer: int, rotation: Float[Tensor, "head d d"], held: Float[Tensor, "head d"] | None
) -> list[AddToWeight]:
    slot = model.weight(Site("w_o", layer))
    old = matrix_of(slot).double()
    n_heads, width = rotation.shape[0], rotation.shape[-1]
    if old.shape[1] != n_heads * width:
        raise ShapeMismatch(f"{n_heads} heads of {width} do not fill the {old.shape[1]} inputs of w_o@{layer}.", "Fit on this model.")
    columns = old.view(old.shape[0], n_heads, width)
    moved = torch.einsum("ohd,hed->ohe", columns, rotation) - columns  # C R^T, row by row
    found = [AddToWeight(Site("w_o", layer), moved.reshape(old.shape))]
    if held is not None:
        bias = _bias_site(slot)
        if bias is None:
            raise UnsupportedExport(
                f"The value bias is held still, and the output projection of layer {layer} has no bias that could take it up.",
                "Fit with value_bias = included, or export a script.",
            )
        found.append(AddToWeight(bias, -torch.einsum("ohd,hd->o", moved, held.double())))
    return found


def _folded_mlp(model: LanguageModel, layer: int, rotation: Float[Tensor, "d d"]) -> list[AddToWeight]:
    if _norm_follows(model, layer):
        raise UnsupportedExport(
            f"A norm follows the MLP's output projection in layer {layer}, and it does not commute with a rotation.",
            "Export a script, which turns the norm's output.",
        )
    slot = model.weight(Site("w_out", layer))
    old = matrix_of(slot).double()
    found = [AddToWeight(Site("w_out", layer), rotation.T @ old - old)]
    bias = _bias_site(slot)
    if bias is not None:
        value = model.weight(bias).parameter.detach().double()
        found.append(AddToWeight(bias, rotation.T @ value - value))
    return found


def _bias_site(slot: WeightSlot) -> Site | None:
    if not isinstance(getattr(slot.module, "bias", None), Tensor):
        return None
    return Site("param", name=slot.parameter_name.removesuffix("weight") + "bias")


def _norm_follows(model: LanguageModel, layer: int) -> bool:
    if layer not in model.layers_of("w_out"):
        return False
    projection = model.weight(Site("w_out", layer)).module
    return all(module is not projection for module in model.point(Site(MLP_KIND, layer)).module.modules())
