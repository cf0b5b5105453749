"""What an ARE fit shows while it runs and when it is done.

Ref: docs/methods/are.md §8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.decode import Sampling, generate
from workbench.edits.engine import applied
from workbench.methods.are.retention import KL_WARNING
from workbench.methods.are.rounds import Round
from workbench.methods.registry import Curve, FitReport, Notice
from workbench.methods.shared.adapters import AdapterEdit, singular_values
from workbench.methods.shared.concept import Concept
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch, prompt_ids
from workbench.record import gather
from workbench.shapes import Tensor
from workbench.sites import Site

Samples = Sequence[tuple[int, str, str]]


def round_row(item: Round) -> dict[str, float]:
    """One round as a row of the table."""
    losses = item.g_losses or (float("nan"),)
    return {
        "round": item.index,
        "accuracy": item.accuracy,
        "accuracy_train": item.accuracy_train,
        "linear_accuracy": item.linear_accuracy,
        "d_loss": item.d_losses[-1] if item.d_losses else float("nan"),
        "g_loss_first": losses[0],
        "g_loss_mean": float(np.mean(losses)),
        "g_loss_last": losses[-1],
        "goal_before": item.goal_before,
        "goal_after": item.goal_after,
        "benefit": item.benefit,
        "probability": item.probability,
        "kl": item.damage.kl,
        "perplexity_ratio": item.damage.perplexity_ratio,
        "class_cosine": item.class_cosine,
        "class_distance": item.class_distance,
        "seconds": item.seconds,
        "memory_mb": item.memory_mb,
    }


def live_values(rounds: Sequence[Round], concept: Concept, samples: Samples) -> dict[str, Any]:
    """What the moving picture needs after a round: the table so far, both sets in the plane, norms, the last sample."""
    values: dict[str, Any] = {
        "rounds": tuple(round_row(item) for item in rounds),
        "points": rounds[-1].points,
        "points_base": rounds[0].points,
        "is_target": concept.train.is_target.numpy(),
        "norms": _norms(rounds),
        "d_losses": rounds[-1].d_losses,
        "g_losses": rounds[-1].g_losses,
    }
    return values | ({"sample": samples[-1]} if samples else {})


def sample_of(model: LanguageModel, concept: Concept, edit: AdapterEdit, direction: str) -> tuple[str, str]:
    """A prompt of the side that the edit is to change, and what the model now says to it."""
    change_target = direction == "away"
    index = next(i for i, side in enumerate(concept.validation.sides) if (side == "target") == change_target)
    prompt = concept.validation.texts[index]
    room = model.info.n_ctx - len(prompt_ids(model.tokenizer, prompt))
    if room < 2:
        return str(prompt), ""
    said = generate(model, [prompt], [(edit,)], Sampling(max_new_tokens=min(20, room - 1)))[0][0]
    return str(prompt), said.text


def _norms(rounds: Sequence[Round]) -> dict[str, tuple[float, ...]]:
    return {str(site): tuple(item.norms[site] for item in rounds) for site in rounds[0].norms}


def drift(model: LanguageModel, edit: AdapterEdit, texts: Mapping[str, TokenBatch]) -> dict[str, tuple[float, ...]]:
    """Mean ‖Δh‖ / ‖h‖ at the last token after each block, for each group of token batches."""
    sites = [Site("resid_post", layer) for layer in range(model.info.n_layers)]
    found: dict[str, tuple[float, ...]] = {}
    for name, batch in texts.items():
        base = gather(model, batch, sites)
        with applied(model, edit):
            moved = gather(model, batch, sites)
        found[name] = tuple(_ratio(base[site], moved[site]) for site in sites)
    return found


def _ratio(base: Tensor, moved: Tensor) -> float:
    return float(((moved - base).double().norm(dim=1) / base.double().norm(dim=1).clamp_min(1e-12)).mean())


def rounds_report(
    model: LanguageModel,
    concept: Concept,
    edit: AdapterEdit,
    neutral: TokenBatch | None,
    read_blocks: Sequence[int],
    rounds: Sequence[Round],
    kept: Round,
    reason: str,
    neutral_source: str,
    samples: Samples,
) -> FitReport:
    """The whole trajectory, with the kept round marked; `neutral` None: how far activations moved is not measured."""
    batch, is_target = concept.validation.tokens(model), concept.validation.is_target
    groups = {} if neutral is None else {"target": batch.rows(is_target), "anti_target": batch.rows(~is_target), "neutral": neutral}
    moved = drift(model, edit, groups)
    values = [singular_values(low) for low in edit.factors.values()]
    return FitReport(
        scalars={
            "n_fit": float(len(concept.train)),
            "n_validation": float(len(concept.validation)),
            **_scalars(rounds, kept),
        },
        curves=(*_curves(rounds), *_drift_curves(moved)),
        arrays={
            "projection": np.stack([item.points for item in rounds]),
            "is_target": concept.train.is_target.numpy(),
            "g_losses": np.array([item.g_losses for item in rounds[1:]]),
            "singular_values": np.stack([value.cpu().numpy() for value in values]),
            "read_blocks": np.array(read_blocks),
        },
        tables=_tables(rounds, kept, samples),
        notices=(*concept.notices, *_notices(rounds, kept, reason, neutral_source)),
    )


def _scalars(rounds: Sequence[Round], kept: Round) -> dict[str, float]:
    return {
        "kept_round": float(kept.index),
        "rounds": float(rounds[-1].index),
        "accuracy_base": rounds[0].accuracy,
        "accuracy": kept.accuracy,
        "benefit_base": rounds[0].benefit,
        "benefit": kept.benefit,
        "probability_base": rounds[0].probability,
        "probability": kept.probability,
        "kl_nats_per_token": kept.damage.kl,
        "perplexity_ratio": kept.damage.perplexity_ratio,
        "seconds": sum(item.seconds for item in rounds),
        "memory_mb": max(item.memory_mb for item in rounds),
    }


def _tables(rounds: Sequence[Round], kept: Round, samples: Samples) -> dict[str, tuple[Mapping[str, Any], ...]]:
    norms = [
        {"round": item.index, "site": str(site), "norm": norm, "gradient": item.gradients[site]}
        for item in rounds
        for site, norm in item.norms.items()
    ]
    return {
        "rounds": tuple({**round_row(item), "kept": item is kept} for item in rounds),
        "norms": tuple(norms),
        "samples": tuple({"round": index, "prompt": prompt, "text": text} for index, prompt, text in samples),
    }


def _curves(rounds: Sequence[Round]) -> tuple[Curve, ...]:
    index = tuple(float(item.index) for item in rounds)
    columns = {
        "discriminator accuracy": ("accuracy", "share"),
        "linear probe accuracy": ("linear_accuracy", "share"),
        "benefit on validation": ("benefit", "share"),
        "KL on neutral text": ("kl", "nats per token"),
        "perplexity ratio": ("perplexity_ratio", "edited / base"),
        "generator loss": ("g_loss_mean", "nats"),
    }
    rows = [round_row(item) for item in rounds]
    return tuple(Curve(name, index, tuple(row[column] for row in rows), "round", unit) for name, (column, unit) in columns.items())


def _drift_curves(moved: Mapping[str, tuple[float, ...]]) -> tuple[Curve, ...]:
    return tuple(
        Curve(f"drift of {name} prompts", tuple(map(float, range(len(values)))), values, "block", "‖Δh‖ / ‖h‖")
        for name, values in moved.items()
    )


def _notices(rounds: Sequence[Round], kept: Round, reason: str, neutral_source: str) -> tuple[Notice, ...]:
    found = [
        Notice("note", f"Stopped after round {rounds[-1].index} ({reason}); kept round {kept.index}."),
        Notice("note", f"Damage is measured on neutral text from {neutral_source}."),
    ]
    if kept.damage.kl > KL_WARNING:
        text = f"Neutral text moved by {kept.damage.kl:.2g} nats per token; above {KL_WARNING} it is noticeable."
        found.append(Notice("warning", text, "Lower the dose, set max_retention_kl, or keep an earlier round."))
    if max(kept.norms.values()) < 1e-4:
        found.append(Notice("warning", "The adapters hardly grew, so the edit is near the identity.", "Raise lr_g."))
    if kept.benefit <= rounds[0].benefit:
        text = f"No gain on validation: {rounds[0].benefit:.2f} before, {kept.benefit:.2f} after."
        found.append(Notice("warning", text, "Read other blocks, raise lr_g, or look at the prompts."))
    return tuple(found)
