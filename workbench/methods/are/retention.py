"""What an edit costs on text that is about something else: divergence from the unedited model, and perplexity.

Ref: docs/methods/are.md §3.6. KL(base || edited) in nats per token, mean over every real position of the neutral texts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.shapes import Float, Tensor

Editing = Callable[[], AbstractContextManager[None]]
# From here on a reader of the neutral text would notice (docs/methods/are.md §3.6).
KL_WARNING = 0.1


@dataclass(frozen=True)
class Damage:
    """Side effects on neutral text: KL in nats per token, and perplexity over that of the unedited model."""

    kl: float
    perplexity_ratio: float


def kl_per_token(base: Float[Tensor, "batch pos d_vocab"], edited: Float[Tensor, "batch pos d_vocab"], mask: Tensor) -> Float[Tensor, ""]:
    """Mean over real positions of KL(base || edited) in nats; gradients flow to `edited`."""
    p, q = (logits.float().log_softmax(-1) for logits in (base, edited))
    return (p.exp() * (p - q)).sum(-1)[mask].mean()


def damage(model: LanguageModel, neutral: TokenBatch, editing: Editing, batch_size: int = 16) -> Damage:
    """Run the neutral texts with and without the edit that `editing` opens."""
    kl, change, n_positions, n_tokens = 0.0, 0.0, 0, 0
    for start in range(0, len(neutral), batch_size):
        part = neutral.rows(slice(start, start + batch_size))
        with torch.no_grad():
            base = model.logits(part)
            with editing():
                edited = model.logits(part)
        n = int(part.mask.sum())
        kl += float(kl_per_token(base, edited, part.mask)) * n
        n_positions += n
        followed = part.mask[:, :-1] & part.mask[:, 1:]
        lost = _log_probs(base, part.ids) - _log_probs(edited, part.ids)
        change += float(lost[followed].double().sum())
        n_tokens += int(followed.sum())
    return Damage(max(kl / n_positions, 0.0), float(torch.tensor(change / max(n_tokens, 1)).exp()))


def _log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    found = logits[:, :-1].float()
    return found.gather(-1, ids[:, 1:, None])[..., 0] - found.logsumexp(-1)
