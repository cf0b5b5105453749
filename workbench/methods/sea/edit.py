"""The edit that spectral methods fit: projections at some layers, and where they fold into weights exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit, UnsupportedExport
from workbench.models.base import LanguageModel
from workbench.numerics.spectral_law import SpectralLaw
from workbench.operations import AddToWeight, Forward, LowRank, Operation, TransformAt, own_part
from workbench.shapes import Activations, Tensor
from workbench.sites import Site

_NOT_LINEAR = "it restores norms or maps features token by token"
_LAW = ("norm", "merge", "phi", "phi_mode", "inverse", "restore_sign")


@edit_kind("spectral")
@final
@dataclass(frozen=True)
class SpectralEdit(Edit):
    """Keep and drop directions at `header.facts["site"]` of the edited layers; at dose 1 the law of docs/methods/sea.md §2.2."""

    laws: Mapping[int, SpectralLaw]

    @property
    def layers(self) -> tuple[int, ...]:
        """Edited layers."""
        return tuple(self.laws)

    @property
    def site_kind(self) -> str:
        """Kind of the edited sites, as `mlp_out`."""
        return str(self.header.facts["site"])

    def tensors(self) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer, law in self.laws.items():
            found |= {f"layer{layer}.keep": law.keep, f"layer{layer}.drop": law.drop}
            if law.centre is not None:
                found[f"layer{layer}.centre"] = law.centre
        return found

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        layers: list[int] = list(header.facts.get("layers", ()))
        wanted = {f"layer{layer}.{part}" for layer in layers for part in ("keep", "drop")}
        centres = {f"layer{layer}.centre" for layer in layers}
        if wanted - set(tensors) or set(tensors) - wanted - centres or any(name not in header.facts for name in (*_LAW, "site")):
            raise CorruptEdit(f"A spectral edit of layers {layers} has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        how: dict[str, Any] = {name: header.facts[name] for name in _LAW}
        return cls(
            header,
            {
                layer: SpectralLaw(tensors[f"layer{layer}.keep"], tensors[f"layer{layer}.drop"], tensors.get(f"layer{layer}.centre"), **how)
                for layer in layers
            },
        )

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        where: str = self.header.facts.get("where", "all")
        return tuple(_operation(Site(self.site_kind, layer), law, dose, where) for layer, law in self.laws.items())

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        reason = self._why_not_foldable()
        linear: Possible | Refused = Possible() if reason is None else Refused(f"It cannot be folded into weights: {reason}.")
        thin: Possible | Refused = linear
        merge = next(iter(self.laws.values())).merge
        if isinstance(linear, Possible) and merge in ("average", "positive"):
            thin = Refused(f"With merge={merge} every direction of the matrix changes: its delta has full rank.")
        elif isinstance(linear, Possible) and self.header.facts.get("has_bias", True):
            thin = Refused("The edit also changes a bias, which the low-rank format does not hold.")
        return {"checkpoint": linear, "peft": thin, "script": Possible(), "report": Possible()}

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        """W' = M W, b' = M b + (I − M) μ with M(λ) = I + λ D, or (1 − λ/2) I + (λ/2) D for merge=average.

        Ref: docs/methods/sea.md §2.7. The delta of a sum is low-rank: λ (A Aᵀ − B Bᵀ) W, never formed.

        Raises:
            UnsupportedExport: the edit is not an affine map of a raw MLP output.
        """
        reason = self._why_not_foldable()
        if reason is not None:
            raise UnsupportedExport(
                f"This spectral edit cannot be folded into weights: {reason}.",
                "Fit with edit_site=mlp_out and norm=none (or merge=average), or export a script.",
            )
        return tuple(op for layer, law in self.laws.items() for op in _folded(model, layer, law, self.dose))

    def _why_not_foldable(self) -> str | None:
        facts, law = self.header.facts, next(iter(self.laws.values()))
        if self.site_kind != "mlp_out":
            return "it acts on the residual stream, which no single weight writes"
        if not law.is_linear:
            return _NOT_LINEAR
        if facts.get("where", "all") != "all":
            return "it acts at some positions only"
        if not facts.get("raw_mlp", True):
            return "what the MLP adds is not what one matrix gives (a norm follows it, or it is a mixture of experts)"
        if law.centre is not None and not facts.get("has_bias", True):
            return "centring needs a bias at the MLP's last matrix, and this architecture's files have none"
        return None


def _operation(site: Site, law: SpectralLaw, dose: float, where: str) -> TransformAt:
    fn = law.at_dose(dose)
    if law.norm != "feature" or not law.restores_norm:
        return TransformAt(site, fn, law.keep.shape[0], where)

    # The released code's norm runs over the tokens of the call, and padding is none of them.
    def over_the_call(x: Activations, forward: Forward) -> Activations:
        return fn(x, forward.real)

    return TransformAt(site, over_the_call, law.keep.shape[0], where, sees_call=True)


def mlp_facts(model: LanguageModel, layers: tuple[int, ...]) -> dict[str, bool]:
    """What folding needs to know of the model: is mlp_out the raw output of the MLP's last matrix, and has that a bias?"""
    if not set(layers) <= set(model.layers_of("w_out")):
        return {"raw_mlp": False, "has_bias": False}
    modules = [model.weight(Site("w_out", layer)).module for layer in layers]
    behind = [list(model.point(Site("mlp_out", layer)).module.modules()) for layer in layers]
    raw = all(any(module is inner for inner in inside) for module, inside in zip(modules, behind))
    return {"raw_mlp": raw, "has_bias": any(getattr(module, "bias", None) is not None for module in modules)}


def _folded(model: LanguageModel, layer: int, law: SpectralLaw, dose: float) -> list[AddToWeight]:
    slot = model.weight(Site("w_out", layer))
    w = own_part(slot.parameter.detach(), transposed=slot.is_transposed).double()
    c = torch.cat([law.keep, law.drop], 1).double().to(w.device)
    signs = torch.cat([torch.ones(law.keep.shape[1]), -torch.ones(law.drop.shape[1])]).to(c)
    if law.merge == "positive":  # m = A Aᵀ y: the update is A Aᵀ y − y
        signs[law.keep.shape[1] :] = 0
    elif law.merge == "negative":
        signs[: law.keep.shape[1]] = 0
    share = dose / 2 if law.merge == "average" else dose
    lost = {"sum": 0.0, "negative": 0.0, "average": share, "positive": dose}[law.merge]

    def change(x: Tensor) -> Tensor:
        return c @ ((share * signs)[:, None] * (c.T @ x)) - lost * x

    if lost == 0.0:
        delta: Tensor | LowRank = LowRank((c.T @ w).float(), (c * (share * signs)).float())
    else:
        delta = change(w).float()
    found = [AddToWeight(Site("w_out", layer), delta)]
    bias = getattr(slot.module, "bias", None)
    if bias is not None:
        centre = torch.zeros_like(bias) if law.centre is None else law.centre.to(bias)
        name = slot.parameter_name.rpartition(".")[0] + ".bias"
        moved = change((bias.detach() - centre).double()[:, None])[:, 0].to(bias.dtype)
        found.append(AddToWeight(Site("param", name=name), moved))
    return found
