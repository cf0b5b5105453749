"""Are these heads what lets the model repeat? Silence the induction heads, and as many others, on random text said twice.

Law: text r r of random tokens can be told in its second half only by looking back. p = mean probability of the right token there:
with every head, without the heads whose induction score is at least half of the best (z ← 0 everywhere), and without as many drawn
from the others. Not among the others: heads that look at the token before at least half as much as the best such head, which do the
first half of the same job.
Ref: arXiv 2209.11895, whose argument from ablation this is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.errors import BadPrompt
from workbench.lenses import registry
from workbench.lenses.heads import head_scores, repeated_texts
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Activations
from workbench.sites import Site

LayerHead = tuple[int, int]
# A score of half the best, and of five times what an even head has, is one.
_OF_BEST, _OF_CHANCE = 0.5, 5.0


@dataclass(frozen=True)
class InductionProof:
    """The induction heads (layer, head), the best first, with their scores; what the model repeats with and without them.

    `whole`, `without` and `random` are mean probabilities of the repeated token: with every head, without the induction heads, and without
    as many other heads, draw by draw; on `n` texts of a seed.
    """

    model: str
    heads: tuple[LayerHead, ...]
    scores: tuple[float, ...]
    whole: float
    without: float
    random: tuple[float, ...]
    n: int
    seed: int

    @property
    def is_proven(self) -> bool:
        """Whether silencing them costs more than every draw of others does."""
        return self.without < min(self.random)

    @property
    def says(self) -> str:
        """What was found, in one sentence."""
        names = [f"{layer}.{head}" for layer, head in self.heads]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        low, high = min(self.random), max(self.random)
        what = "its induction head" if len(names) == 1 else f"its {len(names)} induction heads"
        others = "another head" if len(names) == 1 else f"{len(names)} other heads"
        told = f"Without {what} ({listed}) the model gives the repeated token {self.without:.0%} instead of {self.whole:.0%}; "
        told += f"without {others} it keeps {low:.0%} to {high:.0%}."
        return told if self.is_proven else f"{told} So these heads are not what it repeats by."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a run."""
        told = [("every head", self.whole), ("without the induction heads", self.without)]
        told += [(f"without other heads, draw {i + 1}", value) for i, value in enumerate(self.random)]
        return [{"run": name, "probability of the repeated token": value} for name, value in told]


def induction_proof(
    model: LanguageModel, *, n: int = 8, length: int = 20, draws: int = 20, seed: int = 0, progress: Progress | None = None
) -> InductionProof:
    """Find the induction heads on `n` random sequences of `length` tokens, said twice; silence them on as many fresh ones.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadPrompt: no head stands out, or all do.
    """
    registry.require("induction_proof", model)
    tell = progress or silent()
    found = head_scores(model, n=n, length=length, seed=seed, progress=tell.part(0.0, 0.3))
    at = found.kinds.index("induction")
    scores, every = found.scores[0, at], [(i, j) for i in range(found.scores.shape[2]) for j in range(found.scores.shape[3])]
    least = max(_OF_BEST * float(scores.max()), _OF_CHANCE * float(found.chance[at]))
    heads = sorted((one for one in every if scores[one] >= least), key=lambda one: -scores[one])
    before = found.scores[0, found.kinds.index("previous token")]
    others = [one for one in every if one not in heads and before[one] < _OF_BEST * float(before.max())]
    if not heads or len(others) < len(heads):
        what = "No head" if not heads else f"{len(heads)} of {len(every)} heads"
        raise BadPrompt(f"{what} looks back like an induction head, so there is nothing to set against others.", "Score the heads by kind.")
    # Fresh texts: heads that were chosen on some are not tried on them.
    texts = repeated_texts(model, n, length, seed + 1)
    batch = TokenBatch(*(torch.cat([getattr(text, part) for text in texts]) for part in ("ids", "mask", "n_prompt")))
    drawn = random.Random(seed)
    sets: list[Sequence[LayerHead]] = [(), heads, *(drawn.sample(others, len(heads)) for _ in range(draws))]
    told: list[float] = []
    for i, silenced in enumerate(sets):
        tell(0.3 + 0.7 * i / len(sets), "Silencing the induction heads" if i < 2 else f"Silencing other heads, draw {i - 1}")
        told.append(_repeats(model, batch, length, silenced))
    tell(1.0, "Done")
    best = tuple(float(scores[one]) for one in heads)
    return InductionProof(model.info.name, tuple(heads), best, told[0], told[1], tuple(told[2:]), n, seed)


def _repeats(model: LanguageModel, batch: TokenBatch, length: int, silenced: Sequence[LayerHead]) -> float:
    """Mean probability of the tokens of the second half but its first, which nothing foretells."""
    layers = {layer: [head for at, head in silenced if at == layer] for layer, _ in silenced}
    changes = [(Site("head_z", layer), _silent(heads, model.info.d_head)) for layer, heads in layers.items()]
    with torch.no_grad(), model.intercepts(changes):
        logits = model.logits(batch)[:, -length:-1]
    ids = batch.ids[:, 1 - length :, None]
    return float(logits.double().softmax(-1).gather(-1, ids).mean())


def _silent(heads: Sequence[int], d_head: int) -> ReadWrite:
    columns = np.concatenate([np.arange(head * d_head, (head + 1) * d_head) for head in heads])

    def act(z: Activations) -> Activations:
        x = z.clone()
        x[..., columns] = 0
        return x

    return act
