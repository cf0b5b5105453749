"""Silence one head at a time and measure what happens to target against distractor.

Law: change(l, h) = D(z^{l,h} ← 0 at every position) − D, with D = logit(target) − logit(distractor) at the last token; without a
distractor, D = logit(target). A head that helps the target has a negative change.
Ref: arXiv 2211.00593 (knockouts). Differs: zero instead of the mean over a corpus, so no corpus is needed; a head whose output is
mostly a constant looks more important than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses.bridged import bridged
from workbench.lenses.logit_difference import LogitDifference, logit_difference
from workbench.lenses.resumed import Resumable, copies_at_once
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Activations, Float
from workbench.sites import Site


@dataclass(frozen=True)
class HeadAblation:
    """Change of the logit difference when a head is silent, and the difference with every head speaking."""

    model: str
    lanes: tuple[LaneLabel, ...]
    target: str
    distractor: str | None
    change: Float[np.ndarray, "lane layer head"]
    difference: Float[np.ndarray, " lane"]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a head, lanes side by side."""
        return [
            {"layer": layer, "head": head} | {lane.label: float(self.change[i, layer, head]) for i, lane in enumerate(self.lanes)}
            for layer in range(self.change.shape[1])
            for head in range(self.change.shape[2])
        ]


def head_ablation(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str | None = None,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    progress: Progress | None = None,
) -> HeadAblation:
    """Measure every head under each stack of edits: a copy of the row a head, from its layer on.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: a word holds no token. Others: `engine.lanes`.
    """
    owner, tell = bridged(model, "head_ablation"), progress or silent()
    batch = owner.tokens(prompt)
    asked = logit_difference(owner, target, distractor)
    changes: list[np.ndarray] = []
    totals: list[float] = []
    for index, stack in enumerate(stacks):
        change, total = _measured(owner, batch, stack, asked, tell.part(index / len(stacks), (index + 1) / len(stacks)))
        changes.append(change)
        totals.append(total)
    tell(1.0, "Done")
    return HeadAblation(owner.info.name, lane_labels(stacks), asked.target, asked.distractor, np.stack(changes), np.array(totals))


def _measured(
    model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], asked: LogitDifference, tell: Progress
) -> tuple[np.ndarray, float]:
    n_layers, n_heads, d_head = model.info.n_layers, model.info.n_heads, model.info.d_head
    size, found = copies_at_once(n_heads, batch.ids.shape[1]), np.zeros((n_layers, n_heads))
    with applied(model, *stack):
        run = Resumable(model, batch, size)
        whole = float(asked(run.logits[None, None])[0])
        for layer in range(n_layers):
            tell(layer / n_layers, f"Silencing the heads of layer {layer}")
            for start in range(0, n_heads, size):
                heads = range(start, min(start + size, n_heads))
                logits = run.changed(layer, [(Site("head_z", layer), silenced(heads, d_head))])
                found[layer, heads] = asked(logits[: len(heads), None]).cpu().numpy() - whole
    return found, whole


def silenced(heads: Sequence[int | None], d_head: int) -> ReadWrite:
    """Copy i loses the i-th of the heads; None leaves its heads as they are."""

    def act(z: Activations) -> Activations:
        x = z.clone()
        for row, head in enumerate(heads):
            if head is None:
                continue
            x[row, :, head * d_head : (head + 1) * d_head] = 0
        return x

    return act
