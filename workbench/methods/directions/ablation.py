"""Direction ablation: find the one direction between two sets of prompts whose removal stops the behaviour.

Ref: docs/methods/directions.md §3.2; Arditi et al., arXiv 2406.11717. Fit: r(i, l) = mean_A − mean_B of block l's input at the i-th
last token, in float64. Choose (i, l) by the lowest metric on A under ablation, among l < ⌊0.8 L⌋, with KL ≤ 0.1 on B at the
last position, and metric ≥ 0 on B with r added at block l. metric = log(P + 1e-8) − log(1 − P + 1e-8), P = total
probability of the answers' first tokens at the last position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.engine import applied
from workbench.errors import BadKnob, FitFailed, NotEnoughData
from workbench.knobs import knob
from workbench.methods.directions.edit import DirectionEdit
from workbench.methods.registry import Curve, FitReport, Fitted, Needs, Notice, Obstacle, header, method
from workbench.methods.shared.concept import SIDES, behaviour, concept_of, sided
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress
from workbench.record import gather
from workbench.shapes import Float, Tensor
from workbench.sites import Site

# More first tokens than this are free answers, not one behaviour.
MAX_STARTS = 8


@dataclass(frozen=True)
class DirectionConfig:
    """Knobs of direction ablation."""

    mode: Literal["ablate", "add"] = knob(
        "ablate", label="Act", help="Take the direction out everywhere, or add it at one block.", main=True
    )
    layer: int | None = knob(None, label="Layer", help="Block whose input is read; none: choose on the prompts.", main=True)
    positions: int = knob(3, label="Positions", help="How many last tokens to try.", bounds=(1, 16), main=True)
    strength: float = knob(1.0, label="Strength", symbol="c", help="Coefficient of an added direction.", bounds=(0.0, 20.0))
    answers: tuple[str, ...] = knob(
        (), label="Answers begin with", help="Starts of the behaviour, as ' Sorry'; none: those of the positive answers."
    )
    max_kl: float = knob(
        0.1, label="Damage at most", help="KL on the other side's prompts, at the last token.", bounds=(0.0, 100.0), unit="nats"
    )
    min_induced: float = knob(0.0, label="Induced at least", help="Metric on the other side when added.", bounds=(-20.0, 20.0))
    n_prompts: int | None = knob(None, label="Prompts", help="Number to read, both sides together.", bounds=(4, 2000))
    target: str | None = knob(None, label="Target", help="Which concept is the target, if prompts are tagged with two.")


@dataclass(frozen=True)
class Candidate:
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


@method(
    "refusal_direction",
    title="Direction ablation",
    summary="Find the one direction that tells two sets of prompts apart, and take it out of everything the model writes.",
    paper="arXiv 2406.11717",
    config=DirectionConfig,
    edit=DirectionEdit,
    needs=Needs(("prompt",), task="concept", min_rows=2),
    obstacles=_obstacles,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: DirectionConfig, *, seed: int, progress: Progress) -> Fitted:
    """Read means at each position and layer, and keep the best direction on the validation prompts.

    Raises:
        NotEnoughData: nothing says which answers are the behaviour. BadKnob: no such layer.
        FitFailed: no direction keeps within the limits; the message names the nearest.
    """
    if config.layer is not None and not 0 <= config.layer < model.info.n_layers:
        raise BadKnob(f"layer = {config.layer}; the model has 0 to {model.info.n_layers - 1}.", "Choose one of them.")
    concept = concept_of(model, demonstrations, target=config.target, n_prompts=config.n_prompts)
    n_layers = model.info.n_layers
    layers = (config.layer,) if config.layer is not None else tuple(range(max(1, int(0.8 * n_layers))))
    made = header("refusal_direction", model, demonstrations, config, seed)
    directions = _directions(model, concept.train.tokens(model), concept.train.is_target, layers, config.positions, progress.part(0, 0.3))

    def edit_of(vector: Tensor, layer: int, mode: str) -> DirectionEdit:
        tied = model.info.tied_embeddings
        scale = config.strength if mode == "add" else 1.0
        facts = {"mode": mode, "layer": layer, "n_layers": n_layers, "tied": tied}
        return DirectionEdit(replace(made, facts=facts), (scale * vector).float())

    if config.layer is not None and len(directions) == 1:
        (_, layer), vector = next(iter(directions.items()))
        return Fitted(edit_of(vector, layer, config.mode), FitReport({"layer": float(layer), "norm": float(vector.norm())}))
    starts = _starts(model, demonstrations, config)
    batch, is_target = concept.validation.tokens(model), concept.validation.is_target
    sides = (batch.rows(is_target), batch.rows(~is_target))
    tried: list[Candidate] = []
    for i, ((position, layer), vector) in enumerate(directions.items()):
        progress(0.3 + 0.65 * i / len(directions), f"Trying position {position}, layer {layer}")
        edits = (edit_of(vector, layer, "ablate"), edit_of(vector, layer, "add"))
        tried.append(Candidate(position, layer, vector, *_judged(model, sides, edits, starts)))
    best = chosen(tried, config)
    report = _report(model, tried, best, [str(model.tokenizer.decode([token])) for token in starts])
    return Fitted(edit_of(best.direction, best.layer, config.mode), report)


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


def _starts(model: LanguageModel, demonstrations: Demonstrations, config: DirectionConfig) -> list[int]:
    texts = config.answers or behaviour(demonstrations.split("fit"))
    tokens = {model.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in texts if text}
    if not tokens or len(tokens) > MAX_STARTS:
        raise NotEnoughData(
            f"The positive answers begin in {len(tokens)} ways; 1 to {MAX_STARTS} would show what the behaviour is.",
            "Set answers to how the behaviour begins, for example ' Sorry', or set layer and positions=1 to skip the choice.",
        )
    return sorted(tokens)


def _judged(
    model: LanguageModel, sides: tuple[TokenBatch, TokenBatch], edits: tuple[DirectionEdit, DirectionEdit], starts: list[int]
) -> tuple[float, float, float]:
    target, other = sides
    ablate, add = edits
    base = _last(model, other)
    with applied(model, ablate):
        ablated, moved = _metric(_last(model, target), starts), _last(model, other)
    with applied(model, add):
        induced = _metric(_last(model, other), starts)
    p, q = base.exp() + 1e-6, moved.exp() + 1e-6
    return ablated, float((p * (p.log() - q.log())).sum(-1).mean()), induced


def _last(model: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch d_vocab"]:
    with torch.no_grad():
        logits, _ = model.step(batch, model.new_cache(), 0)
    return logits.double().log_softmax(-1)


def _metric(log_probs: Float[Tensor, "batch d_vocab"], starts: list[int]) -> float:
    p = log_probs[:, starts].exp().sum(-1)
    return float(((p + 1e-8).log() - (1 - p + 1e-8).log()).mean())


def chosen(tried: Sequence[Candidate], config: DirectionConfig) -> Candidate:
    """The candidate with the lowest metric under ablation, among those within the limits and finite.

    Raises:
        FitFailed: there is none.
    """
    finite = [item for item in tried if np.isfinite((item.ablated, item.kl, item.induced)).all()]
    within = [item for item in finite if item.kl <= config.max_kl and item.induced >= config.min_induced]
    if within:
        return min(within, key=lambda item: item.ablated)
    if not finite:
        raise FitFailed("Every direction led to NaN or infinite scores.", "Load the model in float32.")
    kindest, strongest = min(finite, key=lambda item: item.kl), max(finite, key=lambda item: item.induced)
    raise FitFailed(
        f"None of {len(tried)} directions keeps within KL ≤ {config.max_kl:g} and induces ≥ {config.min_induced:g}: the least KL is "
        f"{kindest.kl:.3g} at layer {kindest.layer}, the strongest induces {strongest.induced:.3g} at layer {strongest.layer}.",
        "Raise max_kl, lower min_induced, or set layer and positions=1.",
    )


def _report(model: LanguageModel, tried: Sequence[Candidate], best: Candidate, starts: list[str]) -> FitReport:
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
    return FitReport(
        scalars={
            "layer": float(best.layer), "position": float(best.position), "metric_ablated": best.ablated, "kl_nats": best.kl,
            "metric_induced": best.induced, "norm": float(best.direction.norm()), "candidates": float(len(tried)),
        },
        curves=(
            Curve("metric under ablation", layers, tuple(item.ablated for item in same), "layer", "log odds"),
            Curve("KL on the other side", layers, tuple(item.kl for item in same), "layer", "nats"),
        ),
        tables={"candidates": rows},
        notices=(Notice("note", f"The behaviour is answers that begin with {', '.join(map(repr, starts))}."),),
    )  # fmt: skip
