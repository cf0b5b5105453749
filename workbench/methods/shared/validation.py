"""What a candidate edit gains on validation rows and breaks on held-out neutral text: the measure by which fits choose.

Never sees `test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.score import continuation_scores
from workbench.shapes import Float, Tensor

# Rows × lanes at once; logits of all of them are held.
_AT_ONCE = 256


@dataclass(frozen=True)
class Measured:
    """One stack of edits.

    `benefit`: mean p(good) / (p(good) + p(bad)), summed log-probabilities, times the share of the unedited model's probability of the
    two that is left (at most 1): an edit that makes both answers rare in favour of something else gains nothing.
    `wins`: share of rows in which good beats bad. `damage`: mean KL(base ‖ edited) on neutral text, nats a token.
    """

    benefit: float
    wins: float
    damage: float
    n: int


def measured(
    model: LanguageModel,
    stacks: Sequence[Sequence[Edit]],
    rows: Demonstrations,
    neutral: Sequence[str],
    *,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure every stack side by side, several in one batch of lanes."""
    tell, found = progress or silent(), list[Measured]()
    prompts, good, bad = rows.column("prompt"), rows.column("positive"), rows.column("negative")
    step = max(1, min(len(stacks), _AT_ONCE // 16))
    both = [*prompts, *prompts], [*good, *bad]
    before = _mass(continuation_scores(model, *both, [()], batch_size=_AT_ONCE).total.double())
    for start in range(0, len(stacks), step):
        part = stacks[start : start + step]
        batch = max(1, _AT_ONCE // len(part))
        tell(start / len(stacks), "Measuring on validation rows")
        scores = continuation_scores(model, *both, part, batch_size=batch).total.double()
        margin = scores[:, : len(prompts)] - scores[:, len(prompts) :]
        benefit = torch.sigmoid(margin) * (_mass(scores) - before).clamp(max=0.0).exp()
        kl = neutral_kl(model, part, neutral)
        found += [
            Measured(float(benefit[i].mean()), float((margin[i] > 0).double().mean()), float(kl[i]), len(prompts)) for i in range(len(part))
        ]
    tell(1.0, "Measuring on validation rows")
    return found


def _mass(scores: Float[Tensor, "lane twice_row"]) -> Float[Tensor, "lane row"]:
    """Log-probability of a row's two answers together; the good ones come first."""
    return torch.logaddexp(*scores.chunk(2, dim=1))


def neutral_kl(model: LanguageModel, stacks: Sequence[Sequence[Edit]], neutral: Sequence[str]) -> Float[np.ndarray, " lane"]:
    """Mean KL(base ‖ edited) a token of neutral text, in nats; zeros without text."""
    if not neutral:
        return np.zeros(len(stacks))
    batch = model.tokens(list(neutral))
    total = torch.zeros(len(stacks) + 1, dtype=torch.float64)
    step = max(1, _AT_ONCE // (4 * (len(stacks) + 1)))
    for start in range(0, len(batch), step):
        part = batch.rows(slice(start, start + step))
        with torch.no_grad(), lanes(model, [(), *stacks]):
            logits = model.logits(part.repeat(len(stacks) + 1)).view(len(stacks) + 1, *part.ids.shape, -1)
        base: Tensor | None = None
        for lane, mine in enumerate(logits):
            log_p = (mine if mine.dtype == torch.float64 else mine.float()).log_softmax(-1)
            base = log_p if base is None else base
            kl = (base.exp() * (base - log_p)).sum(-1)
            total[lane] += torch.where(part.mask, kl, 0.0).double().sum().cpu()
    return (total[1:] / batch.mask.sum().cpu()).numpy()
