"""Mean difference (CAA on free text): add the mean of positive minus negative activations to the residual stream.

Ref: docs/methods/directions.md §2.2, §3.1; arXiv 2312.06681. Law: v_l = mean of h_l over the good side less that over the bad side, read
where `read` says, h_l ← h_l + dose · v_l. Swapping the sides negates v; paired and unpaired estimates are equal, so two sets of prompts
do as well as pairs of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import are_pairs, two_sides
from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import BadKnob, CorruptEdit
from workbench.knobs import existing_layers, knob
from workbench.methods.registry import Curve, FitReport, Fitted, Notice, Scope, header, method
from workbench.methods.shared.gating import TRIED_GATES, GateKind, gated
from workbench.methods.shared.harmless import harmless_dose
from workbench.methods.shared.layers import SMALL, layer_pairs, single_layers
from workbench.methods.shared.left_out import gone, owners
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.parts import Holds, parts_knob, parts_of
from workbench.methods.shared.reading import ReadFrom, read_knob, read_sides, settled_reading
from workbench.methods.shared.sparing import HELP, SpareKind, spared
from workbench.methods.shared.starts import Start, start_layer
from workbench.models.base import LanguageModel, ModelInfo
from workbench.numerics.downdate import mean_without
from workbench.operations import Operation, TransformAt
from workbench.progress import Progress
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

DEFAULT_STRENGTH = 2.0
_STREAM, _HEADS, _MLPS = "resid_post", "head_z", "mlp_out"
_NAMES = {"layers": "layer", "mlps": "mlp"}
"""The facts that say which layers have a vector, and how its tensor is named."""
_HOLDS = Holds((_HEADS,), (_MLPS,))
_LEAST_PAIRS, _CHANCES = 16, 1.5
"""Fewer pairs do not tell a common direction from chance; nor does one that is as little longer than chance."""


@dataclass(frozen=True)
class MeanDifferenceConfig:
    """Knobs of mean difference."""

    FORMER: ClassVar[Mapping[str, tuple[str, Mapping[str, str]]]] = {"read": ("read", {"continuation": "mean"}), "heads": ("parts", {})}

    layers: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Layers",
        help="Layers whose output is moved; none: one layer past the middle, or in models of 30 million parameters and more the one that a "
        "look at all layers finds.",
        bounds=(0, 399),
        main=True,
    )
    strength: float | None = knob(
        None,
        label="Strength",
        is_dose=True,
        symbol="c",
        help="How often the mean difference is added at dose 1: strength 2 at dose 1 is strength 1 at dose 2, so the dose is the one to "
        "turn. none: 2, or what moves neutral text by less than KL .1, if that is less.",
        unit="times the difference",
        bounds=(0.0, 20.0),
    )
    where: Literal["all", "prompt", "generated"] = knob("all", label="Where", help="Positions that the edit acts on.", main=True)
    gate: GateKind = knob(
        "none",
        label="Gate",
        help="Let the edit act only on tokens that a probe tells from neutral text: at all (hard) or by share (soft).",
    )
    spare: SpareKind = knob("sinks", label="Spared tokens", help=HELP)
    read: ReadFrom = read_knob("last", "mean")
    parts: tuple[str, ...] | None = parts_knob("the residual stream")

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The layers that are moved; none where the fit looks for one."""
        if self.parts is not None:
            return parts_of(info, self.parts).blocks
        by_depth = (_by_depth(info.n_layers),) if info.n_parameters < SMALL else ()
        return by_depth if self.layers is None else self.layers


@edit_kind("addition")
@final
@dataclass(frozen=True)
class AdditionEdit(Edit):
    """Add a fixed vector to the residual stream after some layers, or to what all heads of a layer give, side by side (`facts`: site).

    `mlps` are added to what the MLPs of some layers give (`facts`: mlps).
    """

    vectors: Mapping[int, Float[Tensor, " width"]]
    mlps: Mapping[int, Float[Tensor, " d_model"]] = field(default_factory=dict[int, Tensor])

    @property
    def site_kind(self) -> str:
        """The kind of site that `vectors` act at."""
        return str(self.header.facts.get("site", _STREAM))

    @property
    def moved(self) -> Mapping[Site, Float[Tensor, " width"]]:
        """What is added where."""
        found = {Site(self.site_kind, layer): vector for layer, vector in self.vectors.items()}
        return found | {Site(_MLPS, layer): vector for layer, vector in self.mlps.items()}

    def moving(self, vectors: Mapping[Site, Float[Tensor, " width"]]) -> Self:
        """The same edit with other vectors."""
        told = {kind: {at.layer or 0: v for at, v in vectors.items() if (at.kind == _MLPS) == kind} for kind in (False, True)}
        return replace(self, vectors=told[False], mlps=told[True])

    def tensors(self) -> Mapping[str, Tensor]:
        streams = {f"layer{layer}.vector": vector for layer, vector in self.vectors.items()}
        return streams | {f"mlp{layer}.vector": vector for layer, vector in self.mlps.items()}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        names = {kind: {int(layer): f"{word}{layer}.vector" for layer in header.facts.get(kind, ())} for kind, word in _NAMES.items()}
        wanted = {name for told in names.values() for name in told.values()}
        if not wanted or wanted != set(tensors):
            raise CorruptEdit(f"An addition edit of {sorted(wanted)} has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        if header.facts.get("site", _STREAM) not in (_STREAM, _HEADS):
            raise CorruptEdit(f"An addition edit at {header.facts['site']!r} is none.", "Restore the folder from a copy.")
        vectors, mlps = ({layer: tensors[name] for layer, name in names[kind].items()} for kind in _NAMES)
        return cls(header, vectors, mlps)

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        where: str = self.header.facts.get("where", "all")
        # At heads, the vector is zero where other heads stand.
        within = {site: tuple(v.nonzero()[:, 0].tolist()) for site, v in self.moved.items() if site.kind == _HEADS}
        return tuple(
            TransformAt(site, _adder(dose * vector), vector.numel(), where, within=within.get(site)) for site, vector in self.moved.items()
        )

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        heads, mlps = ["heads"] if self.vectors else [], ["MLPs"] if self.mlps else []
        place = "the residual stream after a block" if self.site_kind == _STREAM and not mlps else f"what {' and '.join(heads + mlps)} give"
        reason = f"It adds to {place}, where no bias of the file format acts on all architectures alike."
        return {
            "checkpoint": Refused(reason),
            "peft": Refused("It is not a low-rank change of weights."),
            "script": Possible(),
            "report": Possible(),
        }


def _by_depth(n_layers: int) -> int:
    """The layer past the middle."""
    return min(n_layers - 1, n_layers // 2 + 1)


def _adder(vector: Tensor) -> Any:
    wide = {dtype: vector.to(dtype) for dtype in (torch.float32, torch.float64)}

    def add(x: Activations) -> Activations:
        z = x if x.dtype == torch.float64 else x.float()
        return (z + wide[z.dtype]).type_as(x)

    return add


def without(
    model: LanguageModel, demonstrations: Demonstrations, edit: AdditionEdit, config: MeanDifferenceConfig, *, progress: Progress
) -> Iterator[tuple[int, AdditionEdit]]:
    """The edit without each row, in closed form: the means less that row, as often as the fit added their difference.

    Ref: docs/methods/shared.md §9.8. Raises: NotFinite, as the fit.
    """
    rows = demonstrations.split("fit")
    read = read_sides(model, two_sides(rows), list(edit.moved), settled_reading(config.read, model.info), progress)
    masks = _masks(config, model.info)
    sides = {site: tuple(masks(site, x.double().cpu()) for x in both) for site, both in read.items()}
    whole = {site: good.mean(0) - bad.mean(0) for site, (good, bad) in sides.items()}
    added = {site: float(edit.moved[site].double().cpu() @ v / (v @ v)) for site, v in whole.items()}
    good_of, bad_of = owners(rows).values()
    for row in sorted({*good_of, *bad_of}):
        left = {
            site: added[site] * (mean_without(good, gone(good_of, row)) - mean_without(bad, gone(bad_of, row)))
            for site, (good, bad) in sides.items()
        }
        yield row, edit.moving({site: v.to(edit.moved[site]) for site, v in left.items()})


def _masks(config: MeanDifferenceConfig, info: ModelInfo) -> Callable[[Site, Tensor], Tensor]:
    """Set to zero what heads give that are not among the named; the stream and MLPs stay as they are."""
    heads = () if config.parts is None else parts_of(info, config.parts).heads

    def masked(site: Site, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        if site.kind != _HEADS:
            return x
        kept = torch.zeros(info.n_heads, dtype=x.dtype, device=x.device)
        kept[[head for at, head in heads if at == site.layer]] = 1
        return x * kept.repeat_interleave(info.d_head)

    return masked


def _scoped(scope: Scope) -> Mapping[str, Any]:
    """Picked heads and MLPs alone are what moves; where layers were picked, the stream behind them does."""
    return {"layers": None if scope.parts else scope.blocks, "parts": scope.parts}


def _places(model: LanguageModel, config: MeanDifferenceConfig) -> tuple[Site, ...] | None:
    """The sites that the config names, by their layers or their parts; None where it names neither."""
    if config.parts is None:
        layers = None if config.layers is None else existing_layers("layers", config.layers, model.info.n_layers)
        return None if layers is None else tuple(Site(_STREAM, layer) for layer in layers)
    if config.layers is not None:
        raise BadKnob("Layers and parts are both named.", "Leave layers empty to move heads and MLPs, or parts empty to move the stream.")
    named = parts_of(model.info, config.parts)
    if lacking := _HOLDS.lacking(model, named):
        raise BadKnob(f"{model.info.name} shows no {', '.join(lacking)}.", "Name other parts, or leave parts empty to move the stream.")
    heads = dict.fromkeys(layer for layer, _ in named.heads)
    return (*(Site(_HEADS, layer) for layer in heads), *(Site(_MLPS, layer) for layer in named.mlps))


@method(
    "mean_difference",
    title="Mean difference",
    summary="Add the average difference between good and bad answers to the residual stream: the simplest steering, and the one to beat.",
    paper="arXiv 2312.06681",
    config=MeanDifferenceConfig,
    edit=AdditionEdit,
    needs=Needs(("prompt", "positive", "negative"), min_rows=2, sets=True),
    tries=lambda info: {
        "layers": single_layers(info.n_layers),
        "strength": (2.0, 4.0) if info.n_parameters < SMALL else (1.0,),
        "gate": TRIED_GATES,
    },
    designs=lambda info: {"layers": (*single_layers(info.n_layers), *layer_pairs(info.n_layers))},  # the strength is the dose
    scopes=_scoped,
    holds=_HOLDS,
    top_dose=4.0,
    without=without,
    order=2,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: MeanDifferenceConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit one vector a layer from the rows of split `fit`.

    Raises:
        NotFinite: as `record.gather`. BadKnob: no such layer, head or MLP, or layers and parts are both named.
    """
    rows, named = demonstrations.split("fit"), _places(model, config)
    reading, start = settled_reading(config.read, model.info), Start(_by_depth(model.info.n_layers))
    if named is None:
        start = start_layer(model, demonstrations, reading, start.layer, progress.part(0.0, 0.5))
    sites, masks = named or (Site(_STREAM, start.layer),), _masks(config, model.info)
    read = read_sides(model, two_sides(rows), sites, reading, progress.part(0.5, 0.95))
    differences = {site: masks(site, good.double().mean(0) - bad.double().mean(0)) for site, (good, bad) in read.items()}
    plain = AdditionEdit(header("mean_difference", model, demonstrations, config, seed, _facts(sites, config)), {})
    strength, notices = _strength(model, plain, differences, demonstrations, config, seed)
    notices = (*start.notices, *(_scattered(read, masks) if are_pairs(rows) else ()), *notices)
    vectors = {site: (strength * v).float() for site, v in differences.items()}
    lengths = [torch.cat(sides).double().norm(dim=1).mean() for sides in read.values()]
    ratios = [float(vector.norm() / length) for vector, length in zip(vectors.values(), lengths)]
    fitted = Fitted(plain.moving(vectors), _report([site.layer or 0 for site in sites], ratios, len(rows), strength, notices))
    fitted = gated(model, fitted, demonstrations, config.gate, seed=seed, progress=progress.part(0.95, 1.0))
    return spared(model, fitted, demonstrations, config.spare)


def _scattered(read: Mapping[Site, tuple[Tensor, Tensor]], masks: Callable[[Site, Tensor], Tensor]) -> tuple[Notice, ...]:
    """That pairs pull in different directions, so that one vector for all of them is of none.

    The mean of n random differences is 1/√n as long as one of them.
    """
    apart = [masks(site, good - bad) for site, (good, bad) in read.items()]
    n, common = len(apart[0]), max(float(d.mean(0).norm() / d.norm(dim=1).mean().clamp_min(1e-12)) for d in apart)
    if n < _LEAST_PAIRS or common > _CHANCES * n**-0.5:
        return ()
    text = f"The {n} pairs pull in different directions: what they have in common is {common:.2f} as long as a pair's own difference; "
    hint = "One vector is added to every text alike: take rows that want the same of each, as one answer for all or two sets of prompts."
    return (Notice("warning", f"{text}of random ones it would be {n**-0.5:.2f}.", hint),)


def _facts(sites: Sequence[Site], config: MeanDifferenceConfig) -> dict[str, Any]:
    """What the edit says of where it acts."""
    mlps = [site.layer for site in sites if site.kind == _MLPS]
    others = [site for site in sites if site.kind != _MLPS]
    told: dict[str, Any] = {"layers": [site.layer for site in others], "where": config.where}
    told |= {"site": _HEADS} if any(site.kind == _HEADS for site in others) else {}
    return {**told, "mlps": mlps} if mlps else told


def _strength(
    model: LanguageModel,
    plain: AdditionEdit,
    differences: Mapping[Site, Tensor],
    demonstrations: Demonstrations,
    config: MeanDifferenceConfig,
    seed: int,
) -> tuple[float, tuple[Notice, ...]]:
    """How often the difference is added, and why so often."""
    if config.strength is not None:
        return config.strength, ()
    whole = plain.moving({site: (DEFAULT_STRENGTH * v).float() for site, v in differences.items()})
    edit = spared(model, Fitted(whole, FitReport()), demonstrations, config.spare).edit
    dose, damage = harmless_dose(model, edit, demonstrations, seed)
    text = f"Strength {DEFAULT_STRENGTH * dose:.2g}: at it neutral text moves by KL {damage:.2g} nats a token."
    return DEFAULT_STRENGTH * dose, (Notice("note", text, "Set the strength to have another."),)


def _report(layers: Sequence[int], ratios: list[float], n: int, strength: float, notices: tuple[Notice, ...]) -> FitReport:
    size = Curve("edit size", tuple(map(float, layers)), tuple(ratios), "layer", "‖v‖ / mean ‖h‖")
    if max(ratios) < 1e-3:
        notices = (*notices, Notice("warning", "The edit is near the identity.", "Raise the strength, or choose a later layer."))
    return FitReport(
        {"n_fit": float(n), "edit_size": max(ratios), "strength": strength}, (size,), {"edit_size": np.array(ratios)}, notices=notices
    )
