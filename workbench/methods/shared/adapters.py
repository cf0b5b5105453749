"""Low-rank adapters: the edit that adds `scale · b @ a` to weights, and its trainable form while a method fits it.

Ref: docs/methods/shared.md §5; LoRA, arXiv 2106.09685.
Law: y = W x + dose · scale · b (a x), with a (rank, in) and b (out, rank).
Invariants: fresh adapters (b = 0) leave the forward as it is; the rank of a change is at most that of its factors;
nothing but the named weights changes; the product b @ a is never formed during training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self, final

import torch
from torch import nn

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import BadKnob, CorruptEdit, ModelMismatch, NotEnoughData
from workbench.models.base import LanguageModel, WeightSlot
from workbench.models.hooks import WeightTerm
from workbench.operations import AddToWeight, LowRank, Operation, own_part, term, with_term
from workbench.shapes import Float, Tensor
from workbench.sites import LAYER_WEIGHTS, Site
from workbench.sites import site as site_of


@edit_kind("adapter")
@final
@dataclass(frozen=True)
class AdapterEdit(Edit):
    """Add a low-rank delta to some weights. Doses add: two edits on one weight add their deltas."""

    factors: Mapping[Site, LowRank]

    @staticmethod
    def facts(factors: Mapping[Site, LowRank]) -> dict[str, Any]:
        """What a header of these factors has to state: their sites and scales, in order."""
        return {"scales": {str(site): low.scale for site, low in factors.items()}}

    def tensors(self) -> Mapping[str, Tensor]:
        return {f"{site}.{part}": getattr(low, part) for site, low in self.factors.items() for part in ("a", "b")}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        scales: dict[str, float] = dict(header.facts.get("scales", {}))
        wanted = {f"{name}.{part}" for name in scales for part in ("a", "b")}
        if not scales or wanted != set(tensors):
            raise CorruptEdit(f"An adapter of {sorted(scales)} has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        factors: dict[Site, LowRank] = {}
        for name, scale in scales.items():
            a, b = tensors[f"{name}.a"], tensors[f"{name}.b"]
            if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                raise CorruptEdit(
                    f"The factors at {name} are {tuple(a.shape)} and {tuple(b.shape)}; they have to share a rank.",
                    "Restore the folder from a copy.",
                )
            factors[Site.parse(name)] = LowRank(a, b, float(scale))
        return cls(header, factors)

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        return tuple(AddToWeight(site, replace(low, scale=dose * low.scale)) for site, low in self.factors.items())

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        tied = [str(site) for site in self.factors if site.kind in ("w_e", "w_u")]
        fold = Refused(f"{', '.join(tied)} may be shared by both ends of the network.") if tied else Possible()
        thin = fold
        if self.header.network == "mixture" and any(site.kind in ("w_gate", "w_in", "w_out") for site in self.factors):
            thin = Refused("In a mixture of experts PEFT takes the matrices of a dense layer's MLP for those of the experts.")
        return {"checkpoint": fold, "peft": thin, "script": Possible(), "report": Possible()}


@final
class Adapters:
    """Adapters that are being trained: parameters a and b a site, in float32 or in float64 if the model is.

    a is Kaiming-uniform with slope √5, that is U(−1/√in, 1/√in), drawn from the generator; b is zero.
    """

    def __init__(
        self,
        model: LanguageModel,
        sites: Sequence[Site | str],
        rank: int,
        alpha: float,
        generator: torch.Generator,
        inputs: Mapping[Site, Sequence[int] | None] | None = None,
    ) -> None:
        """Make fresh adapters of scale alpha / rank.

        Args:
            inputs: which of a site's inputs its adapter sees, as a head's columns; the others' factors stay 0. None: all.

        Raises:
            UnknownSite: the model has no such weight. BadKnob: a site that is no matrix, or none at all.
        """
        if not sites:
            raise BadKnob("No weight was chosen for the adapters.", "Choose at least one block and one matrix in it.")
        self.scale = alpha / rank
        self._model = model
        self._parts: dict[Site, tuple[WeightSlot, nn.Parameter, nn.Parameter]] = {}
        self._seen: dict[Site, Tensor] = {}
        dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
        for site in map(site_of, sites):
            slot = model.weight(site)
            if slot.is_table or len(slot.shape) != 2:
                raise BadKnob(f"{site} is no matrix that maps activations.", "Choose matrices of a block, as w_in or w_out.")
            out, into = slot.shape
            bound = into**-0.5
            a = ((torch.rand(rank, into, generator=generator, dtype=dtype) * 2 - 1) * bound).to(slot.parameter.device)
            if (columns := (inputs or {}).get(site)) is not None:
                self._seen[site] = torch.zeros(into, dtype=dtype, device=a.device).index_fill_(0, torch.tensor(columns, device=a.device), 1)
                a = a * self._seen[site]
            self._parts[site] = (
                slot,
                nn.Parameter(a),
                nn.Parameter(torch.zeros(out, rank, dtype=dtype, device=slot.parameter.device)),
            )

    @property
    def sites(self) -> tuple[Site, ...]:
        """The weights that carry adapters."""
        return tuple(self._parts)

    def parameters(self) -> list[nn.Parameter]:
        """All a and b: everything that training may move."""
        return [parameter for _, a, b in self._parts.values() for parameter in (a, b)]

    @property
    def n_parameters(self) -> int:
        """Σ rank (in + out)."""
        return sum(parameter.numel() for parameter in self.parameters())

    def attached(self) -> AbstractContextManager[None]:
        """Within this context, forwards of this thread carry the adapters, with gradients."""
        terms = [(site, _training(slot, LowRank(self._held(site, a), b, self.scale))) for site, (slot, a, b) in self._parts.items()]
        return self._model.intercepts([], terms)

    def factors(self) -> dict[Site, LowRank]:
        """A frozen copy of the factors as they are now."""
        now = {site: (self._held(site, a).detach().clone(), b.detach().clone()) for site, (_, a, b) in self._parts.items()}
        return {site: LowRank(a, b, self.scale) for site, (a, b) in now.items()}

    def _held(self, site: Site, a: Float[Tensor, "rank into"]) -> Float[Tensor, "rank into"]:
        """The factor with what it may not see at 0: an optimiser that decays or rounds moves it back there too."""
        return a * self._seen[site].to(a.dtype) if site in self._seen else a

    def gradient_norms(self) -> dict[Site, float]:
        """‖∂L/∂(a, b)‖ a site, 0 where nothing flowed back."""
        return {site: _norm([a.grad, b.grad]) for site, (_, a, b) in self._parts.items()}


MLP_MATRICES, ATTENTION_MATRICES = ("w_in", "w_out"), ("w_q", "w_k", "w_v", "w_o")


def adapted_sites(model: LanguageModel, layers: Sequence[int], kinds: Sequence[str] = MLP_MATRICES) -> list[Site]:
    """The matrices of these kinds in these layers; for those of the MLP, attention's where a layer has none (a mixture of experts).

    Raises:
        BadKnob: none of the layers has any.
    """
    found: list[Site] = []
    for layer in layers:
        own = [Site(kind, layer) for kind in kinds if layer in model.layers_of(kind)]
        if not own and tuple(kinds) == MLP_MATRICES:
            own = [Site(kind, layer) for kind in ATTENTION_MATRICES if layer in model.layers_of(kind)]
        found += own
    if not found:
        have = [f"{kind} in layers {', '.join(map(str, model.layers_of(kind)))}" for kind in LAYER_WEIGHTS if model.layers_of(kind)]
        raise BadKnob(
            f"{model.info.name} has no {' or '.join(kinds)} in layers {', '.join(map(str, layers))}.",
            f"It has: {'; '.join(have) or 'no matrices with an address'}.",
        )
    return found


def _training(slot: WeightSlot, low: LowRank) -> WeightTerm:
    def add(_: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return with_term(y, term(low, x.to(y.device)), slot.columns)

    return add


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return float(sum(float(g.double().square().sum()) for g in gradients if g is not None) ** 0.5)


def matrix_of(slot: WeightSlot) -> Float[Tensor, "out in"]:
    """The weight behind a slot as (out, in): transposed if stored so, and only the rows that belong to the site."""
    return own_part(slot.parameter.detach(), transposed=slot.is_transposed, columns=slot.columns)


def relative_norms(model: LanguageModel, factors: Mapping[Site, LowRank]) -> dict[Site, float]:
    """‖scale · b a‖_F / ‖W‖_F a site, from the small Gram matrices of the factors."""
    found: dict[Site, float] = {}
    for site, low in factors.items():
        a, b = low.a.double(), low.b.double()
        square = float(((b.T @ b) * (a @ a.T)).sum().clamp_min(0))
        found[site] = abs(low.scale) * square**0.5 / float(matrix_of(model.weight(site)).double().norm())
    return found


def singular_values(low: LowRank) -> Float[Tensor, " rank"]:
    """Singular values of scale · b a, through the thin QR of both factors."""
    r_b = torch.linalg.qr(low.b.double(), mode="r").R
    r_a = torch.linalg.qr(low.a.double().T, mode="r").R
    return abs(low.scale) * torch.linalg.svdvals(r_b @ r_a.T)


def composed(edits: Sequence[AdapterEdit]) -> AdapterEdit:
    """One adapter that does what several do together, each at its own dose: ranks add, deltas add.

    Raises:
        NotEnoughData: no edit. ModelMismatch: they were fitted on different models.
    """
    if not edits:
        raise NotEnoughData("There is no adapter to compose.", "Give at least one.")
    first = edits[0].header
    for edit in edits[1:]:
        if not edit.header.model.same_model(first.model):
            raise ModelMismatch(
                f"The adapters were fitted on {first.model.name} and on {edit.header.model.name}.",
                "Compose edits of one model.",
            )
    parts: dict[Site, list[LowRank]] = {}
    for edit in edits:
        for operation in edit.operations():
            if isinstance(operation, AddToWeight) and isinstance(operation.delta, LowRank):
                parts.setdefault(operation.site, []).append(operation.delta)
    if not parts:
        raise NotEnoughData("Every adapter has dose 0, so there is nothing to compose.", "Give a dose above 0.")
    factors = {
        site: LowRank(torch.cat([low.a for low in lows]), torch.cat([low.scale * low.b for low in lows], 1)) for site, lows in parts.items()
    }
    named = [{"edit": edit.id, "method": edit.header.method, "dose": edit.dose} for edit in edits]
    header = replace(
        first,
        config={"parts": named},
        data="+".join(edit.header.data for edit in edits),
        facts={**({"network": first.network} if first.network else {}), **AdapterEdit.facts(factors), "parts": named},
    )
    return AdapterEdit(header, factors)


__all__ = [
    "ATTENTION_MATRICES",
    "MLP_MATRICES",
    "AdapterEdit",
    "Adapters",
    "adapted_sites",
    "composed",
    "matrix_of",
    "relative_norms",
    "singular_values",
]
