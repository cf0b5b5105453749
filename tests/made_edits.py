"""Edits made by hand, with their operations as functions of the dose, and the logits of a small batch under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import Tensor

from tests.conftest import words
from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused
from workbench.edits.engine import applied
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, LowRank, Operation, Rows, TransformAt
from workbench.sites import Site

# float32 rounding of matrix products in another batch shape; the float64 check below shrinks it by eight orders
CLOSE = 2e-5


@final
@dataclass(frozen=True)
class MadeEdit(Edit):
    """An edit made by hand: its operations at a dose, and the claim that it can be exported in every form."""

    kind = "made-for-tests"
    make: Callable[[float], tuple[Operation, ...]] = lambda dose: ()

    def tensors(self) -> Mapping[str, Tensor]:
        deltas = [op.delta for op in self.make(1.0) if isinstance(op, AddToWeight)]
        return {f"delta{i}": delta for i, delta in enumerate(deltas) if isinstance(delta, Tensor)}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        return cls(header)

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        return self.make(dose)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        return {"checkpoint": Possible(), "peft": Possible(), "script": Possible(), "report": Possible()}


def made(model: LanguageModel, make: Callable[[float], tuple[Operation, ...]]) -> MadeEdit:
    return MadeEdit(Header("made", {}, model.fingerprint, "", 0, {}), make=make)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shift(model: LanguageModel, kind: str = "resid_post", layer: int = 1, head: int | None = None, seed: int = 0, **more: Any) -> MadeEdit:
    site = Site(kind, layer, head)
    vector = 0.5 * draw(model.width(site), seed=seed)
    return made(model, lambda dose: (TransformAt(site, lambda x: x + dose * vector.to(x.dtype), vector.numel(), **more),))


def low_rank(model: LanguageModel, kind: str = "w_out", seed: int = 1) -> MadeEdit:
    out, inner = model.weight(Site(kind, 1)).shape
    a, b = draw(2, inner, seed=seed), 0.3 * draw(out, 2, seed=seed + 1)
    return made(model, lambda dose: (AddToWeight(Site(kind, 1), LowRank(a, b, dose)),))


def dense(model: LanguageModel, kind: str, seed: int = 2) -> MadeEdit:
    delta = 0.1 * draw(*model.weight(Site(kind, 0)).shape, seed=seed)
    return made(model, lambda dose: (AddToWeight(Site(kind, 0), dose * delta),))


def rows(model: LanguageModel) -> MadeEdit:
    values = 0.5 * draw(2, model.info.d_model, seed=5)
    return made(model, lambda dose: (AddToWeight(Site("w_e"), Rows(torch.tensor([12, 13]), dose * values)),))


def several(model: LanguageModel) -> list[MadeEdit]:
    return [
        shift(model), shift(model, "mlp_out", 0), shift(model, "head_z", 1, 2), shift(model, "attn_out", 2, seed=3),
        low_rank(model), low_rank(model, "w_q"), low_rank(model, "w_v", seed=8), dense(model, "w_o"), rows(model),
    ]  # fmt: skip


def batch_of(model: LanguageModel) -> TokenBatch:
    return model.tokens([words(12, 13, 14, 15), words(20, 12), words(31, 32, 33)])


def logits(model: LanguageModel, batch: TokenBatch | None = None) -> Tensor:
    with torch.no_grad():
        return model.logits(batch or batch_of(model))


def under(model: LanguageModel, *edits: Edit, batch: TokenBatch | None = None) -> Tensor:
    with applied(model, *edits):
        return logits(model, batch)


def real(model: LanguageModel, x: Tensor, batch: TokenBatch | None = None) -> Tensor:
    return x[(batch or batch_of(model)).mask]
