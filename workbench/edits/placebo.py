"""Placebos: would any edit of this size do the same?

`rotated` keeps an edit's tokens, gates, rank and size, and turns what it does into a random direction: at each site
x + Δ(x) becomes x + QΔ(x) with one random orthogonal Q, so ‖Δ‖ is the same at every token and Δ spans a random subspace
of equal rank; an edit of some heads is turned within their coordinates. A delta ΔW becomes QΔW or ΔWQ, with the same singular
values. Ref: docs/methods/shared.md §7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Refused, edit_kind, kind_of
from workbench.operations import AddToWeight, Forward, LowRank, Operation, Rows, TransformAt
from workbench.shapes import Activations, Float, Tensor

_WHY = "It is a placebo: it only serves to be compared with."


@edit_kind("placebo")
@final
@dataclass(frozen=True)
class PlaceboEdit(Edit):
    """Another edit whose displacement is turned by a random rotation: equal size, equal rank, no meaning."""

    inner: Edit
    seed: int = 0

    def tensors(self) -> Mapping[str, Tensor]:
        return self.inner.tensors()

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        told: dict[str, Any] = dict(header.facts["placebo"])
        facts = {name: value for name, value in header.facts.items() if name != "placebo"}
        inner = kind_of(told["kind"]).from_tensors(replace(header, method=told["method"], facts=facts), tensors)
        return cls(header, inner, int(told["seed"]))

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        return tuple(
            _turned_transform(op, self.seed) if isinstance(op, TransformAt) else _turned_delta(op, self.seed)
            for op in self.inner.at_dose(dose)
        )

    def exports(self) -> Mapping[ExportTarget, Refused]:
        return {target: Refused(_WHY) for target in ("checkpoint", "peft", "script", "report")}


def rotated(edit: Edit, seed: int) -> PlaceboEdit:
    """Return a placebo of an edit, at its dose and place, behind its gates and bounds; another seed turns it elsewhere."""
    told = {"kind": edit.kind, "method": edit.header.method, "seed": seed}
    facts = {**edit.header.facts, "placebo": told}
    header = replace(edit.header, method=f"placebo of {edit.header.method}", facts=facts)
    return PlaceboEdit(header, edit, seed, dose=edit.dose, gates=edit.gates, spares=edit.spares, place=edit.place, where=edit.where)


@lru_cache(maxsize=32)
def rotation(width: int, seed: int) -> Float[Tensor, "width width"]:
    """A random orthogonal matrix, uniform (Haar): QR of a Gaussian matrix with the signs of R's diagonal taken out."""
    draw = torch.Generator().manual_seed(1_000_003 * seed + width)
    q, r = torch.linalg.qr(torch.randn(width, width, generator=draw, dtype=torch.float64))
    return q * r.diagonal().sign()


def _turned_transform(op: TransformAt, seed: int) -> TransformAt:
    at = list(range(op.width) if op.within is None else op.within)
    q = rotation(len(at), seed)

    def act(x: Activations, *forward: Forward) -> Activations:
        wide = x if x.dtype == torch.float64 else x.float()
        moved = (op.fn(x, *forward).to(wide.dtype) - wide)[..., at]
        turned = wide.clone()
        turned[..., at] += moved @ q.T.to(wide)
        return turned.type_as(x)

    return replace(op, fn=act)


def _turned_delta(op: AddToWeight, seed: int) -> AddToWeight:
    """Turn the narrower side of a matrix (a vocabulary's side may be huge), and vectors and rows in their width."""
    delta = op.delta
    if isinstance(delta, LowRank):
        out, inward = delta.shape
        # An adapter that is held to some heads sees their columns alone: its placebo has to as well.
        if out <= inward or bool((delta.a == 0).all(0).any()):
            return replace(op, delta=replace(delta, b=_turned(delta.b.T, seed).T))
        return replace(op, delta=replace(delta, a=_turned(delta.a, seed)))
    if isinstance(delta, Rows):
        return replace(op, delta=Rows(delta.ids, _turned(delta.values, seed)))
    turns_rows = delta.ndim == 1 or delta.shape[0] > delta.shape[1]
    return replace(op, delta=_turned(delta, seed) if turns_rows else _turned(delta.T, seed).T)


def _turned(x: Float[Tensor, "... width"], seed: int) -> Float[Tensor, "... width"]:
    return (x.double() @ rotation(x.shape[-1], seed).to(x.device).T).to(x.dtype)
