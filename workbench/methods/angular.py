"""Angular steering: turn activations in one plane, by an angle that can be set like a dial; their length stays as it is.

Ref: docs/methods/angular.md; Vu & Nguyen, arXiv 2510.26243. A plane has an orthonormal basis (f, s), f being the direction
from bad to good answers. An activation h has coordinates (f·h, s·h) = ρ (cos φ, sin φ) there: φ is its angle from f.
Law: h ← h + ρ ((cos φ' − cos φ) f + (sin φ' − sin φ) s). `turn = by`: φ' = φ − dose · θ, a rotation of s towards f that is the same for
every token. `turn = to` (the paper): φ' = φ + dose · (θ − φ), the shorter way round, so that at dose 1 every token has the angle θ.
Invariants: ‖h‖ and all that is outside the plane stay; dose 0 is the identity, and so is angle 0 of `by`, whose turns add up.
Differs: each layer has a plane of its own, spanned by its difference of means and by its mean activation, along which most tokens lie, and
turns by an angle; the paper (`plane = shared`) takes for all layers the difference that is most like the others', with the first principal
component of all. We turn the residual stream behind a block; the paper turns what each norm hands to attention and MLP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self, final

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import are_pairs, two_sides
from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit, FitFailed
from workbench.knobs import existing_layers, knob
from workbench.methods.registry import Curve, FitReport, Fitted, Notice, header, method, with_notices
from workbench.methods.shared.gating import TRIED_GATES, GateKind, gated
from workbench.methods.shared.harmless import harmless_dose
from workbench.methods.shared.layers import SMALL, layer_pairs, single_layers
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.neutral import neutral_of
from workbench.methods.shared.reading import ReadFrom, read_knob, read_sides, settled_reading
from workbench.methods.shared.sparing import HELP, SpareKind, spared
from workbench.methods.shared.starts import Start, start_layer
from workbench.methods.shared.validation import measured
from workbench.models.base import LanguageModel, ModelInfo
from workbench.operations import Operation, TransformAt, wide
from workbench.progress import Progress
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

Plane = Float[Tensor, "2 d_model"]
DEFAULT_ANGLE = 20.0
DIAL = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
# Rows and neutral texts that the dial is read on, in a small network and in another, where six angles on 64 rows took most of a fit.
_DIALLED, _DIALLED_LARGE = (64, 16), (20, 8)


@dataclass(frozen=True)
class AngularConfig:
    """Knobs of angular steering."""

    layers: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Layers",
        help="Layers whose output is turned; none: one a third of the way up, or in models of 30 million parameters and more the one that "
        "a look at all layers finds.",
        bounds=(0, 399),
        main=True,
    )
    angle: float | None = knob(
        None, label="Angle", symbol="θ", unit="degrees", bounds=(-180.0, 180.0), main=True,
        help="How far activations turn at dose 1, towards the good answers' direction; with turn = to, the angle from it that they end at. "
        "none: 20, or what moves neutral text by less than KL .1, if that is less.",
    )  # fmt: skip
    turn: Literal["by", "to"] = knob("by", label="Turn", help="By the angle, or to the angle, wherever they were (paper).")
    which: Literal["all", "opposed", "aligned"] = knob(
        "all", label="Which tokens", help="All, or those that lie against the good answers' direction, or along it (the paper's adaptive)."
    )
    plane: Literal["layer", "shared"] = knob(
        "layer", label="Plane", help="Each layer's own, by its mean activation, or one for all layers, by principal components (paper)."
    )
    read: ReadFrom = read_knob("last", "mean")
    where: Literal["all", "prompt", "generated"] = knob("all", label="Where", help="Positions that the edit acts on.")
    gate: GateKind = knob("none", label="Gate", help="Act only on tokens that a probe tells from neutral text: at all (hard) or by share.")
    spare: SpareKind = knob("sinks", label="Spared tokens", help=HELP)

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The layers that are turned; none where the fit looks for one."""
        looks = info.n_parameters >= SMALL and self.plane == "layer"
        return self.layers or (() if looks else (_by_depth(info.n_layers),))


def _by_depth(n_layers: int) -> int:
    """The layer a third of the way up."""
    return single_layers(n_layers)[0][0]


@edit_kind("plane")
@final
@dataclass(frozen=True)
class PlaneEdit(Edit):
    """Turn the residual stream after some layers in a plane; the dose scales the turn. `facts`: angle_rad, turn, which, where, layers."""

    planes: Mapping[int, Plane]

    def tensors(self) -> Mapping[str, Tensor]:
        return {f"layer{layer}.plane": plane for layer, plane in self.planes.items()}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        layers: list[int] = list(header.facts.get("layers", ()))
        lacking = {"angle_rad", "turn", "which", "where"} - set(header.facts)
        if lacking or {f"layer{layer}.plane" for layer in layers} != set(tensors) or any(len(plane) != 2 for plane in tensors.values()):
            raise CorruptEdit(f"A plane edit of layers {layers} has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        return cls(header, {layer: tensors[f"layer{layer}.plane"] for layer in layers})

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        told = self.header.facts
        laws = {layer: plane_turn(plane, told["angle_rad"], told["turn"], told["which"], dose) for layer, plane in self.planes.items()}
        return tuple(TransformAt(Site("resid_post", layer), law, self.planes[layer].shape[1], told["where"]) for layer, law in laws.items())

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        why = Refused("How far a token turns depends on the token: no change of weights equals it.")
        return {"checkpoint": why, "peft": why, "script": Possible(), "report": Possible()}


def plane_turn(plane: Plane, angle_rad: float, turn: str, which: str, dose: float) -> Callable[[Activations], Activations]:
    """Return the law at a dose."""
    sides = {"all": (1.0, 1.0), "aligned": (1.0, 0.0), "opposed": (0.0, 1.0)}[which]  # share along f, share against it
    basis = {dtype: plane.to(dtype) for dtype in (torch.float32, torch.float64)}

    def act(x: Activations) -> Activations:
        z = wide(x)
        before = z @ basis[z.dtype].T  # (batch, pos, 2)
        along, across = before[..., 0], before[..., 1]
        by = torch.full_like(along, -angle_rad)
        if turn == "to":
            by = torch.remainder(angle_rad - torch.atan2(across, along) + math.pi, 2 * math.pi) - math.pi
        by = dose * by * torch.where(along > 0, sides[0], sides[1]).to(z.dtype)
        # Exact where nothing turns: cos 0 − 1 and sin 0 are 0.
        cos, sin = torch.cos(by) - 1, torch.sin(by)
        moved = torch.stack([cos * along - sin * across, sin * along + cos * across], -1)
        return (z + moved @ basis[z.dtype]).type_as(x)

    return act


@method(
    "angular",
    title="Angular steering",
    summary="Turn activations in one plane towards the good answers' direction, by an angle set like a dial; their length stays.",
    paper="arXiv 2510.26243",
    config=AngularConfig,
    edit=PlaneEdit,
    needs=Needs(("prompt", "positive", "negative"), min_rows=2, sets=True),
    presets={"ours": {}, "paper": {"turn": "to", "angle": 0.0, "plane": "shared", "read": "last", "spare": "none"}},
    tries=lambda info: {"layers": (*single_layers(info.n_layers), *layer_pairs(info.n_layers)), "gate": TRIED_GATES},
    scopes=lambda scope: {"layers": scope.blocks},
    top_dose=4.0,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: AngularConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit one plane a layer from the rows of split `fit`.

    Raises:
        FitFailed: good and bad answers give the same activations.
    """
    n = model.info.n_layers
    reading, start = settled_reading(config.read, model.info), Start(_by_depth(n))
    if config.layers is None and config.plane == "layer":
        start = start_layer(model, demonstrations, reading, start.layer, progress.part(0.0, 0.3))
    layers = (start.layer,) if config.layers is None else existing_layers("layers", config.layers, n)
    sides, read_at = two_sides(demonstrations.split("fit")), layers if config.plane == "layer" else range(n)
    sites = [Site("resid_post", layer) for layer in read_at]
    read = read_sides(model, sides, sites, reading, progress.part(0.3, 0.6))
    good, bad = (torch.stack([both[i].double().mean(0).cpu() for both in read.values()]) for i in range(2))
    difference, middle = good - bad, (good + bad) / 2
    if float(difference.norm(dim=1).min()) == 0.0:
        raise FitFailed("Good and bad answers give the same activations, so there is no direction.", "Make the answers differ.")
    if config.plane == "layer":
        planes = {layer: _plane(f, s) for layer, f, s in zip(layers, difference, middle)}
    else:
        planes = dict.fromkeys(layers, _shared(difference, middle))
    facts = {"layers": list(layers), "turn": config.turn, "which": config.which, "where": config.where}
    plain = PlaneEdit(header("angular", model, demonstrations, config, seed, {**facts, "angle_rad": math.radians(DEFAULT_ANGLE)}), planes)
    angle, notices = _angle(model, plain, demonstrations, config, seed)
    edit = replace(plain, header=replace(plain.header, facts={**plain.header.facts, "angle_rad": math.radians(angle)}))
    fitted = gated(model, Fitted(edit, FitReport()), demonstrations, config.gate, seed=seed, progress=progress.part(0.6, 0.8))
    fitted = spared(model, fitted, demonstrations, config.spare)
    report = _report(model, fitted, demonstrations, (angle, config.turn), seed, progress.part(0.8, 1.0))
    return with_notices(replace(fitted, report=report), *start.notices, *notices, *fitted.report.notices)


def _angle(
    model: LanguageModel, plain: PlaneEdit, demonstrations: Demonstrations, config: AngularConfig, seed: int
) -> tuple[float, tuple[Notice, ...]]:
    """By how many degrees to turn at dose 1, and why by so many."""
    if config.angle is not None:
        return config.angle, ()
    if config.turn == "to":
        return DEFAULT_ANGLE, ()
    edit = spared(model, Fitted(plain, FitReport()), demonstrations, config.spare).edit
    dose, damage = harmless_dose(model, edit, demonstrations, seed)
    text = f"Angle {DEFAULT_ANGLE * dose:.2g}: at it neutral text moves by KL {damage:.2g} nats a token."
    return DEFAULT_ANGLE * dose, (Notice("note", text, "Set the angle to have another."),)


def _plane(feature: Float[Tensor, " d_model"], second: Float[Tensor, " d_model"]) -> Plane:
    """The orthonormal basis of the plane of two directions, the first one kept."""
    f = feature / feature.norm()
    s = second - (second @ f) * f
    return torch.stack([f, s / s.norm()]).float()


def _shared(candidates: Float[Tensor, "layer d_model"], middle: Float[Tensor, "layer d_model"]) -> Plane:
    """The paper's plane: the candidate with the highest mean cosine with all, and the candidates' first principal component."""
    unit = torch.nn.functional.normalize(candidates, dim=1)
    second = torch.linalg.svd(candidates - candidates.mean(0), full_matrices=False).Vh[0]
    # A component has no sign of its own; it points to where activations are, so that an angle means the same in either kind of plane.
    return _plane(candidates[int((unit @ unit.T).mean(1).argmax())], second * (middle.mean(0) @ second).sign())


def _report(
    model: LanguageModel, fitted: Fitted, demonstrations: Demonstrations, turn: tuple[float, str], seed: int, progress: Progress
) -> FitReport:
    """The dial: what is gained on validation rows (the fit rows where there are none) and broken on neutral text, angle by angle.

    Two sets of prompts have no answers to gain on, so they have no dial.
    """
    if not are_pairs(demonstrations.split("fit")):
        notice = Notice("note", "Two sets of prompts have no answers to score, so there is no dial.", "Evaluate it, or compare answers.")
        n_fit = float(len(demonstrations.split("fit")))
        return replace(fitted.report, scalars={**fitted.report.scalars, "n_fit": n_fit}, notices=(notice,))
    held, told = demonstrations.split("validation").having("prompt", "positive", "negative"), fitted.report
    n_rows, n_neutral = _DIALLED if model.info.n_parameters < SMALL else _DIALLED_LARGE
    neutral = neutral_of(model, demonstrations, seed).held[:n_neutral]
    rows = (held if len(held) else demonstrations.split("fit")).first(n_rows)
    found = measured(model, [(fitted.edit.scaled(dose),) for dose in DIAL], rows, neutral, progress=progress)
    x, unit = ([dose * turn[0] for dose in DIAL], "degrees") if turn[1] == "by" else (DIAL, "dose")
    before, after = (found[DIAL.index(dose)] for dose in (0.0, 1.0))
    scalars = {
        **told.scalars, "n_fit": float(len(demonstrations.split("fit"))), "n_held_out": float(min(len(held), n_rows)),
        "p_good_before": before.benefit, "p_good_after": after.benefit, "kl_nats": after.damage,
    }  # fmt: skip
    curves = (
        Curve("P(good)", tuple(x), tuple(item.benefit for item in found), unit, "P(good)"),
        Curve("KL on neutral text", tuple(x), tuple(item.damage for item in found), unit, "nats a token"),
    )
    notices = () if len(held) else (Notice("note", "No validation rows: the dial was read on the fit rows.", "Mark some validation."),)
    return replace(told, scalars=scalars, curves=curves, notices=notices)
