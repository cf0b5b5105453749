"""Direction ablation: find the one direction between two sets of prompts whose removal stops the behaviour.

Ref: docs/methods/directions.md §3.2; Arditi et al., arXiv 2406.11717. Fit: r(i, l) = mean_A − mean_B of block l's input at the i-th
last token, in float64. Choose (i, l) by the lowest log-odds of the behaviour on A under ablation, among l < ⌊0.8 L⌋, with KL ≤ 0.1 on B
at the last position, and with log-odds on B that r, added at block l, raises. Differs: the paper asks that adding raises them above 0
(preset `paper`), which directions of a small model do not reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, Sides, sided
from workbench.edits.engine import applied
from workbench.errors import FitFailed
from workbench.knobs import knob
from workbench.methods.directions.behaviour import Bench, bench, next_log_probs
from workbench.methods.directions.edit import DirectionEdit, settled
from workbench.methods.registry import Curve, FitReport, Fitted, Notice, header, method
from workbench.methods.shared.concept import ConceptPrompts, concept_of
from workbench.methods.shared.layers import single_layers
from workbench.methods.shared.needs import Needs, Obstacle
from workbench.methods.shared.reading import read_knob, read_sides
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress
from workbench.record import gather
from workbench.shapes import Float, Tensor
from workbench.sites import Site

# A direction without which the behaviour's log-odds fall by less than this hardly carries it.
HARDLY = 1.0
# Three positions of twenty blocks; a model of fewer blocks may be read at more positions for the same price.
CANDIDATES = 60


@dataclass(frozen=True)
class DirectionConfig:
    """Knobs of direction ablation."""

    mode: Literal["ablate", "add"] = knob(
        "ablate", label="Act", help="Take the direction out everywhere, or add it at one block.", main=True
    )
    layer: int | None = knob(
        None, names_layers=True, label="Layer", help="Block whose input is read; none: choose on the prompts.", bounds=(0, 399), main=True
    )
    positions: int | None = knob(
        None,
        label="Positions",
        help="How many last tokens to try (read = last); none: three, or more in models of few blocks.",
        bounds=(1, 64),
        unit="tokens",
    )
    read: Literal["last", "mean"] = read_knob("last", "mean", default="last")
    strength: float = knob(
        1.0,
        label="Strength",
        is_dose=True,
        symbol="c",
        help="How often an added direction is added at dose 1: strength 2 at dose 1 is strength 1 at dose 2.",
        unit="times the direction",
        bounds=(0.0, 20.0),
    )
    answers: tuple[str, ...] = knob(
        (), label="Answers begin with", help="How answers of the behaviour begin, as Sorry; none: as the positive answers do."
    )
    max_kl: float = knob(
        0.1, label="Damage at most", help="Change of the next token after prompts of the other side.", bounds=(0.0, 100.0), unit="nats"
    )
    min_induced: float | None = knob(
        None,
        label="Induced at least",
        help="What adding the direction has to bring about after prompts of the other side; none: more of the behaviour than without it.",
        bounds=(-20.0, 20.0),
        unit="log-odds",
    )
    n_prompts: int | None = knob(
        None, label="Prompts", help="Number to read, both sides together; none: all.", bounds=(4, 2000), unit="prompts"
    )
    target: str | None = knob(None, label="Target", help="Which concept is the target, if prompts are tagged with two.")

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The block that is named; without one the fit chooses."""
        return () if self.layer is None else (self.layer,)


@dataclass(frozen=True)
class DirectionCandidate:
    """A direction and what it does: metric on A ablated, KL on B ablated, metric on B with it added."""

    position: int
    layer: int
    direction: Float[Tensor, " d_model"]
    ablated: float
    kl: float
    induced: float


def _obstacles(model: LanguageModel, demonstrations: Demonstrations) -> tuple[Obstacle, ...]:
    sides = sided(demonstrations.split("fit"))
    if min(len(sides[side]) for side in SIDES) >= 2:
        return ()
    counts = " and ".join(f"{len(sides[side])} {side}" for side in SIDES)
    hint = "Label rows target or anti_target, or give each row both answers."
    return (Obstacle(f"Two sets of prompts are needed; found {counts} prompts to fit.", hint),)


def _designs(info: ModelInfo) -> Mapping[str, tuple[Any, ...]]:
    """Layers and both acts; one position, so that a fit reads one direction and tries none."""
    return {"layer": tuple(layer for (layer,) in single_layers(info.n_layers)), "mode": ("ablate", "add"), "positions": (1,)}


@method(
    "refusal_direction",
    title="Direction ablation",
    summary="Find the one direction that tells two sets of prompts apart, and take it out of everything the model writes.",
    paper="arXiv 2406.11717",
    config=DirectionConfig,
    edit=DirectionEdit,
    needs=Needs(("prompt",), task="concept", min_rows=2),
    presets={"ours": {}, "paper": {"min_induced": 0.0}},
    obstacles=_obstacles,
    designs=_designs,
    scopes=lambda scope: {"layer": scope.blocks[0]},
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: DirectionConfig, *, seed: int, progress: Progress) -> Fitted:
    """Read means at each position and layer, and keep the best direction on the validation prompts.

    Raises:
        NotEnoughData: nothing says which answers are the behaviour.
        FitFailed: no direction keeps within the limits; the message names the nearest.
    """
    concept = concept_of(model, demonstrations, target=config.target, n_prompts=config.n_prompts)
    n_layers = model.info.n_layers
    written = set(model.layers_of("attn_out")) & set(model.layers_of("mlp_out"))
    whole = [layer for layer in range(n_layers) if layer not in written or not model.info.adds_up]
    layers = (config.layer,) if config.layer is not None else tuple(range(max(1, int(0.8 * n_layers))))
    n_positions = config.positions or max(3, CANDIDATES // len(layers))
    made = header("refusal_direction", model, demonstrations, config, seed)
    if config.read == "mean":
        directions = _mean_directions(model, concept.train, layers, progress.part(0, 0.3))
    else:
        directions = _directions(model, concept.train.tokens(model), concept.train.is_target, layers, n_positions, progress.part(0, 0.3))

    def edit_of(vector: Tensor, layer: int, mode: str) -> DirectionEdit:
        tied = model.info.tied_embeddings
        scale = config.strength if mode == "add" else 1.0
        facts = {**made.facts, "mode": mode, "layer": layer, "n_layers": n_layers, "tied": tied} | ({"whole": whole} if whole else {})
        return DirectionEdit(replace(made, facts=facts), (scale * vector).float())

    if config.layer is not None and len(directions) == 1:
        (_, layer), vector = next(iter(directions.items()))
        return Fitted(settled(model, edit_of(vector, layer, config.mode)), FitReport({"layer": float(layer), "norm": float(vector.norm())}))
    by = bench(model, demonstrations, concept.validation, config.answers, seed)
    calm, tried = next_log_probs(model, by.calm), list[DirectionCandidate]()
    for i, ((position, layer), vector) in enumerate(directions.items()):
        progress(0.3 + 0.65 * i / len(directions), f"Trying position {position}, layer {layer}")
        edits = (edit_of(vector, layer, "ablate"), edit_of(vector, layer, "add"))
        tried.append(DirectionCandidate(position, layer, vector, *_judged(model, by, calm, edits)))
    best = best_direction(tried, config, by.other.metric(model))
    share = by.target.probabilities(model)
    with applied(model, edit_of(best.direction, best.layer, "ablate")):
        left = by.target.probabilities(model)
    report = _report(tried, best, by, float(share.mean()), float(left.mean()), by.target.metric(model))
    return Fitted(settled(model, edit_of(best.direction, best.layer, config.mode)), report)


def _directions(
    model: LanguageModel, batch: TokenBatch, is_target: Tensor, layers: Sequence[int], n_positions: int, progress: Progress
) -> dict[tuple[int, int], Float[Tensor, " d_model"]]:
    last = min(n_positions, int(batch.lengths.min()))
    positions = torch.zeros_like(batch.mask)
    positions[:, -last:] = True
    sites = [Site("resid_pre", layer) for layer in layers]
    rows = gather(model, batch, sites, positions, progress=progress)
    found: dict[tuple[int, int], Tensor] = {}
    for site, layer in zip(sites, layers):
        x = rows[site].double().view(len(batch), last, -1)
        difference = x[is_target].mean(0) - x[~is_target].mean(0)
        found |= {(i - last, layer): difference[i] for i in range(last) if float(difference[i].norm()) > 0}
    return found


def _mean_directions(
    model: LanguageModel, train: ConceptPrompts, layers: Sequence[int], progress: Progress
) -> dict[tuple[int, int], Float[Tensor, " d_model"]]:
    """One direction a layer, as of position 0: the difference of means over answers, or over prompts without."""
    sites = [Site("resid_pre", layer) for layer in layers]
    ends = train.ends or (None,) * len(train)
    sides: Sides = {side: [(text, end) for text, end, mine in zip(train.texts, ends, train.sides) if mine == side] for side in SIDES}
    read = read_sides(model, sides, sites, "mean", progress)
    found = {(0, layer): good.mean(0) - bad.mean(0) for layer, (good, bad) in zip(layers, read.values())}
    return {at: difference for at, difference in found.items() if float(difference.norm()) > 0}


def _judged(model: LanguageModel, by: Bench, calm: Tensor, edits: tuple[DirectionEdit, DirectionEdit]) -> tuple[float, float, float]:
    ablate, add = edits
    with applied(model, ablate):
        ablated, moved = by.target.metric(model), next_log_probs(model, by.calm)
    with applied(model, add):
        induced = by.other.metric(model)
    p, q = calm.exp() + 1e-6, moved.exp() + 1e-6
    return ablated, float((p * (p.log() - q.log())).sum(-1).mean()), induced


def best_direction(tried: Sequence[DirectionCandidate], config: DirectionConfig, before: float = 0.0) -> DirectionCandidate:
    """The candidate with the lowest metric under ablation, among those within the limits and finite.

    Args:
        before: metric on the other side without an edit, which an added direction has to raise where the config names no number.

    Raises:
        FitFailed: there is none.
    """
    finite = [item for item in tried if np.isfinite((item.ablated, item.kl, item.induced)).all()]
    least = before if config.min_induced is None else config.min_induced
    within = [item for item in finite if item.kl <= config.max_kl and item.induced >= least]
    if within:
        return min(within, key=lambda item: item.ablated)
    if not finite:
        raise FitFailed("Every direction led to NaN or infinite scores.", "Load the model in float32.")
    kindest, strongest = min(finite, key=lambda item: item.kl), max(finite, key=lambda item: item.induced)
    raise FitFailed(
        f"None of {len(tried)} directions keeps within KL ≤ {config.max_kl:g} and induces ≥ {least:.3g}: the least KL is "
        f"{kindest.kl:.3g} at layer {kindest.layer}, the strongest induces {strongest.induced:.3g} at layer {strongest.layer}.",
        "Raise max_kl, lower min_induced, or set layer and positions=1.",
    )


def _report(
    tried: Sequence[DirectionCandidate], best: DirectionCandidate, by: Bench, share: float, left: float, before: float
) -> FitReport:
    rows = tuple(
        {
            "position": item.position,
            "layer": item.layer,
            "ablated": item.ablated,
            "kl": item.kl,
            "induced": item.induced,
            "kept": item is best,
        }
        for item in tried
    )
    same = [item for item in tried if item.position == best.position]
    layers = tuple(float(item.layer) for item in same)
    told = f"The behaviour is {by.said}. After target prompts it has {share:.0%} of the probability, and {left:.0%} without the direction."
    notices = [Notice("note", told)]
    if before - best.ablated < HARDLY:
        hint = "Try more positions, or a method that edits more than one direction."
        notices.append(Notice("warning", "The direction hardly carries the behaviour: without it the model behaves much the same.", hint))
    return FitReport(
        scalars={
            "layer": float(best.layer), "position": float(best.position), "metric_base": before, "metric_ablated": best.ablated,
            "kl_nats": best.kl, "metric_induced": best.induced, "norm": float(best.direction.norm()), "candidates": float(len(tried)),
        },
        curves=(
            Curve("metric under ablation", layers, tuple(item.ablated for item in same), "layer", "log odds"),
            Curve("KL on the other side", layers, tuple(item.kl for item in same), "layer", "nats"),
        ),
        tables={"candidates": rows},
        notices=tuple(notices),
    )  # fmt: skip
