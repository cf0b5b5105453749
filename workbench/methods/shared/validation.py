"""What a candidate edit gains on validation rows and breaks on text that it should leave alone: the measure by which fits choose.

Never sees `test`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.methods.shared.ground import Ground
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.score import continuation_scores, text_divergences
from workbench.shapes import Float, Tensor

# Rows × lanes at once, where lanes cannot depart from one pass.
_AT_ONCE = 256


@dataclass(frozen=True)
class Measured:
    """One stack of edits.

    `margin`: mean over prompts of log p(good) − log p(bad), each a token of its answer, in nats; `margins` those of each prompt (rows of
    one prompt are one). It is the measure of a gain: summed probabilities of long answers are 0 under any edit.
    `benefit`: mean p(good) / (p(good) + p(bad)), summed log-probabilities, times the share of the unedited model's probability of the
    two that is left (at most 1): an edit that makes both answers rare in favour of something else gains nothing.
    `wins`: share of rows in which good beats bad. `damage`: mean KL(base ‖ edited) on neutral text, nats a token.
    """

    benefit: float
    wins: float
    damage: float
    n: int
    margins: tuple[float, ...] = ()

    @property
    def margin(self) -> float:
        """The mean margin, nats a token; NaN where none was measured."""
        return float(np.mean(self.margins)) if self.margins else math.nan


def measured(
    model: LanguageModel,
    stacks: Sequence[Sequence[Edit]],
    rows: Demonstrations,
    neutral: Sequence[str] | Ground,
    *,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure every stack side by side; passes of the unedited model are kept from one call to the next."""
    tell, found = progress or silent(), list[Measured]()
    prompts, good, bad = rows.prompts(), rows.column("positive"), rows.column("negative")
    step = max(1, min(len(stacks), _AT_ONCE // 16))
    both = [*prompts, *prompts], [*good, *bad]
    for start in range(0, len(stacks), step):
        part = stacks[start : start + step]
        batch = max(1, _AT_ONCE // len(part))
        tell(start / len(stacks), "Measuring on validation rows")
        scores = continuation_scores(model, *both, [(), *part], batch_size=batch)  # the unedited lane is where the others depart
        before, total = scores.total.double()[:1], scores.total.double()[1:]
        won, margin = ((x[:, : len(prompts)] - x[:, len(prompts) :]).cpu() for x in (total, scores.mean.double()[1:]))
        benefit = torch.sigmoid(won) * (_mass(total) - _mass(before)).clamp(max=0.0).exp().cpu()
        margins, kl = _by_prompt(margin.numpy(), prompts), neutral_kl(model, part, neutral)
        found += [
            Measured(float(benefit[i].mean()), float((won[i] > 0).double().mean()), float(kl[i]), len(prompts), tuple(margins[i].tolist()))
            for i in range(len(part))
        ]
    tell(1.0, "Measuring on validation rows")
    return found


def _mass(scores: Float[Tensor, "lane twice_row"]) -> Float[Tensor, "lane row"]:
    """Log-probability of a row's two answers together; the good ones come first."""
    return torch.logaddexp(*scores.chunk(2, dim=1))


def _by_prompt(x: Float[np.ndarray, "lane row"], prompts: Sequence[object]) -> Float[np.ndarray, "lane prompt"]:
    """Means over the rows of each prompt: answers in several phrasings are one observation."""
    index = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    owner = np.array([index[prompt] for prompt in prompts])
    return np.stack([np.bincount(owner, weights=lane) / np.bincount(owner) for lane in x])


def neutral_kl(model: LanguageModel, stacks: Sequence[Sequence[Edit]], neutral: Sequence[str] | Ground) -> Float[np.ndarray, " lane"]:
    """Mean KL(base ‖ edited) a token of neutral text, in nats; zeros without text."""
    if not neutral:
        return np.zeros(len(stacks))
    ground = neutral if isinstance(neutral, Ground) else Ground.of(model, neutral)
    return text_divergences(model, ground.batch, stacks, ground.counted).kl.mean(1).numpy()
