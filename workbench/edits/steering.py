"""The edit of a direction without demonstrations: one vector added to the stream behind a layer, at every token.

Law: h[layer] ← h[layer] + dose · v at every token but those of the attention sink, which the rest of the text leans on.
Ref: activation addition, arXiv 2308.10248.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.edits.cell import cell_site
from workbench.errors import CorruptEdit
from workbench.operations import Operation, TransformAt, wide
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

_WHY = "It adds to the stream between two blocks, where the file format has no bias."


@edit_kind("steering")
@final
@dataclass(frozen=True)
class SteeringEdit(Edit):
    """Add a vector behind one layer. `facts`: layer (−1: what enters the first block), direction (its name), size (of a token's norm)."""

    vector: Float[Tensor, " d_model"]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"vector": self.vector}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        if set(tensors) != {"vector"} or tensors["vector"].ndim != 1:
            raise CorruptEdit(f"A steering edit has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        if not isinstance(header.facts.get("layer"), int):
            raise CorruptEdit("The steering edit does not say behind which layer it acts.", "Restore the folder from a copy.")
        return cls(header, tensors["vector"])

    @property
    def site(self) -> Site:
        """Where the vector is added."""
        return cell_site(int(self.header.facts["layer"]))

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        return (TransformAt(self.site, _added(dose * self.vector), self.vector.numel()),)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        return {"checkpoint": Refused(_WHY), "peft": Refused(_WHY), "script": Possible(), "report": Possible()}


def _added(vector: Tensor):  # noqa: ANN202
    def add(x: Activations) -> Activations:
        z = wide(x)
        return (z + vector.to(z)).type_as(x)

    return add
