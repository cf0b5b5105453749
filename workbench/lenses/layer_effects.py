"""Which layer of an edit moved a token: let its operations act from the bottom up, one layer more at a time.

With the operations of the layers l₁ < … < lₙ acting up to lₖ, the token has log-probability pₖ; p₀ is the base's, pₙ the edit's. Layer lₖ
moved it by pₖ − pₖ₋₁, so the layers' shares add up to the whole change. Beside them stands what each layer does alone: shares that differ
from these say that the layers work through one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit, Stack
from workbench.edits.engine import lanes
from workbench.edits.labels import lane_label
from workbench.errors import BadPrompt
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Float

# Lanes at once: each is a row of the batch.
_AT_ONCE = 16
EMBEDDING = -1
"""Stands for what acts before the first layer: rows of the embedding."""


@dataclass(frozen=True)
class LayerEffects:
    """Log-probabilities of one token, in nats: of the base, with the edit's layers up to each, and with each alone."""

    model: str
    edit: str
    token: str
    position: int
    layers: tuple[int, ...]
    base: float
    up_to: Float[np.ndarray, " layer"]
    alone: Float[np.ndarray, " layer"]

    @property
    def moved(self) -> Float[np.ndarray, " layer"]:
        """What each layer moved it by, the layers below it acting too; the sum is the whole change."""
        return np.diff(self.up_to, prepend=self.base)

    @property
    def total(self) -> float:
        """The whole change, edit minus base."""
        return float(self.up_to[-1] - self.base) if len(self.layers) else 0.0

    def rows(self) -> list[dict[str, str | float]]:
        """One table row a layer."""
        told = zip(self.layers, self.up_to, self.moved, self.alone)
        return [
            {"layer": "embedding" if layer == EMBEDDING else layer, "log_prob_up_to_it": float(up), "moved_by_nats": float(by),
             "alone_nats": float(one - self.base)} for layer, up, by, one in told
        ]  # fmt: skip


def layer_effects(
    model: LanguageModel, prompt: Prompt, ids: Sequence[int], stack: Sequence[Edit], *, at: int = -1, progress: Progress | None = None
) -> LayerEffects:
    """Return what each layer of a stack of edits does to token `at` of an answer.

    Args:
        ids: the answer's token ids, as far as it is to be read. at: which of them, the last if not told.

    Raises:
        BadPrompt: the answer has no such token. Others: as `engine.lanes`.
    """
    if not -len(ids) <= at < len(ids):
        raise BadPrompt(f"The answer has {len(ids)} tokens, and token {at} is asked for.", "Name a token of the answer.")
    position = at % len(ids)
    layers = tuple(sorted({EMBEDDING if op.site.layer is None else op.site.layer for edit in stack for op in edit.operations()}))
    below = [frozenset(layers[: k + 1]) for k in range(len(layers))]
    stacks = [(), *(_held(stack, kept) for kept in below), *(_held(stack, frozenset((layer,))) for layer in layers)]
    head = model.tokens(prompt).ids[0].tolist()
    batch = TokenBatch.of([[*head, *ids[: position + 1]]], [len(head)], model.device)
    found: list[float] = []
    tell = progress or silent()
    for start in range(0, len(stacks), _AT_ONCE):
        tell(start / len(stacks), "Layer by layer")
        some = stacks[start : start + _AT_ONCE]
        with torch.no_grad(), lanes(model, some):
            logits = model.logits(batch.repeat(len(some)))[:, -2]
        found += (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)[:, ids[position]].tolist()
    n, (token,) = len(layers), token_texts(model.tokenizer, [ids[position]])
    up_to, alone = np.array(found[1 : n + 1]), np.array(found[n + 1 :])
    return LayerEffects(model.info.name, lane_label(tuple(stack)), token, position, layers, found[0], up_to, alone)


def _held(stack: Sequence[Edit], layers: frozenset[int]) -> Stack:
    return tuple(replace(edit, held_to=layers) for edit in stack)
