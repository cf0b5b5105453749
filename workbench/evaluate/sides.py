"""What an edit does on two sets of prompts that have no answers: which side's held-out texts the model finds likelier.

Nothing there says what a good answer is, so none of the paired scores means anything. An edit towards one side makes its texts likelier, a
token, than the other side's. Ref: docs/methods/shared.md §9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sides import SIDES, Side, concepts, side_of
from workbench.edits.labels import edits_of
from workbench.evaluate.metrics import Lanes, Metric, by_prompting, mean_metric
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import auc_interval, placements
from workbench.progress import Progress
from workbench.score import batch_scores
from workbench.shapes import Bool, Float


def sides_in(rows: Demonstrations, everything: Demonstrations) -> list[tuple[Demonstration, Side]]:
    """The rows without answers that are of one side, if there are such of both; which concept is the target, the rows to fit say."""
    names = concepts(everything.split("fit")) or concepts(everything)
    bare = [row for row in rows if not (row.positive or row.negative)]
    told: list[tuple[Demonstration, Side]] = [(row, side) for row in bare if (side := side_of(row, names, None)) is not None]
    return told if {side for _, side in told} == set(SIDES) else []


def scored_sides(
    model: LanguageModel, rows: list[tuple[Demonstration, Side]], lanes: Lanes, batch: int, progress: Progress
) -> tuple[tuple[Metric, ...], tuple[dict[str, Any], ...]]:
    """Both metrics of `side_metrics`, with a table row a text and lane. Raises: as `score.batch_scores`."""
    log_p = _a_token(model, [row.prompt for row, _ in rows], lanes, batch, progress)
    items = tuple(
        {"id": row.id, "prompt": str(row.prompt), "lane": lane, "side": side, "log_prob_a_token": float(log_p[lane, i])}
        for i, (row, side) in enumerate(rows)
        for lane in range(len(lanes))
    )
    return side_metrics(log_p, np.array([side == "target" for _, side in rows])), items


def side_metrics(log_p: Float[np.ndarray, "lane text"], is_target: Bool[np.ndarray, " text"]) -> tuple[Metric, Metric]:
    """How far apart each lane holds the two sides, from the mean log-probability a token (nats) of each text.

    `side_gap_nats`: the target's mean less the others'. A text's item is its signed distance from the middle between both means, twice, so
    that the items' mean is the gap and their spread is that within the sides. `side_auc`: how often a target's text is the likelier of a
    pair. A text's item is the AUC plus twice what its placement (its share of the other side's texts that it is rightly ordered with)
    differs from it: the variance of their mean is DeLong's, S₁₀/m + S₀₁/n, and that of a change the paired one.
    Ref: DeLong, DeLong and Clarke-Pearson 1988.
    """
    sizes = np.where(is_target, is_target.sum(), (~is_target).sum())
    weights = log_p.shape[1] / (2 * sizes)  # either side is half of the mean, however many texts it has
    yes, no = log_p[:, is_target], log_p[:, ~is_target]
    middle = (yes.mean(1, keepdims=True) + no.mean(1, keepdims=True)) / 2
    gap = np.where(is_target, 2.0, -2.0) * (log_p - middle)
    ordered = placements(yes, no)
    placed, auc = np.empty_like(log_p), ordered.mean((1, 2))[:, None]
    placed[:, is_target], placed[:, ~is_target] = ordered.mean(2), ordered.mean(1)
    right = mean_metric(
        "side_auc", "The target's text likelier than another (AUC)", auc + 2 * (placed - auc), "", "higher", weights=weights
    )
    return (
        mean_metric("side_gap_nats", "The target's texts ahead of the others", gap, "nats/token", "higher", weights=weights),
        replace(right, values=tuple(auc_interval(high, low) for high, low in zip(yes, no))),
    )


def _a_token(model: LanguageModel, prompts: list[Prompt], lanes: Lanes, batch: int, progress: Progress) -> Float[np.ndarray, "lane text"]:
    """Mean log-probability of each text's tokens but the first; what a lane says before it is read, and not scored."""
    own, found = model.tokens(prompts), np.zeros((len(lanes), len(prompts)))
    groups = by_prompting(lanes)
    for i, (said, mine) in enumerate(groups):
        asked = own if said is None else model.tokens([said.on(prompt) for prompt in prompts])
        given = (asked.lengths - own.lengths + 1).clamp_min(1)
        part = progress.part(i / len(groups), (i + 1) / len(groups))
        texts = TokenBatch(asked.ids, asked.mask, torch.minimum(given, asked.lengths - 1).clamp_min(1))
        scores = batch_scores(model, texts, [edits_of(lanes[lane]) for lane in mine], batch_size=batch, progress=part)
        found[mine] = (scores.total.double() / scores.n_tokens.clamp_min(1)).cpu().numpy()
    return found
