"""The edit of one cell: a vector added behind one layer at one token of a prompt, counted from the prompt's end.

Law: h[layer, n − from_end] ← h + dose · v, where n is the prompt's length; every other token and every generated one keeps what it has, so
the edit means the same in each prompt that ends alike. Where v is the difference of two runs at that cell, dose 1 is activation patching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit
from workbench.operations import Forward, Operation, TransformAt, wide
from workbench.shapes import Activations, Bool, Float, Tensor
from workbench.sites import Site

_WHY = "It acts at one token of a prompt, counted from its end, which"


@edit_kind("cell")
@final
@dataclass(frozen=True)
class CellEdit(Edit):
    """Add a vector at one layer and token. `facts`: layer (−1: what enters the first block), from_end (1: the prompt's last token)."""

    vector: Float[Tensor, " d_model"]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"vector": self.vector}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        if set(tensors) != {"vector"} or tensors["vector"].ndim != 1:
            raise CorruptEdit(f"An edit of a cell has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        places = [header.facts.get(name) for name in ("layer", "from_end")]
        if not all(isinstance(place, int) for place in places):
            raise CorruptEdit("The edit of a cell does not say where it acts.", "Restore the folder from a copy.")
        return cls(header, tensors["vector"])

    @property
    def site(self) -> Site:
        """Where the vector is added."""
        return cell_site(int(self.header.facts["layer"]))

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        law = _added_at(dose * self.vector, int(self.header.facts["from_end"]))
        return (TransformAt(self.site, law, self.vector.numel(), sees_call=True),)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        return {
            "checkpoint": Refused(f"{_WHY} no change of weights does."),
            "peft": Refused(f"{_WHY} no change of weights does."),
            "script": Refused(f"{_WHY} a script does not know."),
            "report": Possible(),
        }


def cell_site(layer: int) -> Site:
    """The residual stream behind a layer; −1 is what enters the first block."""
    return Site("resid_pre", 0) if layer < 0 else Site("resid_post", layer)


def cell_of(forward: Forward, from_end: int) -> Bool[Tensor, "batch pos"]:
    """Where the `from_end`-th token of each row's prompt is; nowhere in a call that does not hold the prompt's end, as of later tokens."""
    left = forward.prompt.long().flip(-1).cumsum(-1).flip(-1)
    return forward.prompt & (left == from_end) & (forward.prompt & forward.generated).any(-1, keepdim=True)


def _added_at(vector: Tensor, from_end: int):  # noqa: ANN202
    def add(x: Activations, forward: Forward) -> Activations:
        z = wide(x)
        return torch.where(cell_of(forward, from_end)[..., None], z + vector.to(z), z).type_as(x)

    return add
