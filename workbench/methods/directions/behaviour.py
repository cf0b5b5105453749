"""What a direction is judged by: how answers of the behaviour begin, after which prompts, and what has to stay as it is.

Ref: docs/methods/directions.md §3.2. metric = mean [log(P + 1e-8) − log(1 − P + 1e-8)], P the total probability, at a prompt's end, of the
tokens that answers of the behaviour begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch

from workbench.conversations import Conversation, Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import behaviour
from workbench.errors import NotEnoughData
from workbench.methods.shared.concept import ConceptPrompts
from workbench.methods.shared.neutral import neutral_of
from workbench.models.base import LanguageModel
from workbench.models.token_texts import first_token
from workbench.models.tokens import TokenBatch
from workbench.shapes import Bool, Float, Tensor

# More first tokens than this are answers to as many questions, not one behaviour.
MAX_STARTS = 8


@final
@dataclass(frozen=True)
class JudgedPrompts:
    """Prompts, and the first tokens that begin the behaviour after each of them."""

    batch: TokenBatch
    is_start: Bool[Tensor, "row d_vocab"]

    @classmethod
    def of(cls, model: LanguageModel, texts: Sequence[Prompt], starts: Sequence[Sequence[int]]) -> Self:
        """Prompts with their starts as token ids."""
        batch = model.tokens(list(texts))
        is_start = torch.zeros(len(texts), model.info.d_vocab, dtype=torch.bool, device=batch.ids.device)
        for row, tokens in enumerate(starts):
            is_start[row, list(tokens)] = True
        return cls(batch, is_start)

    def metric(self, model: LanguageModel) -> float:
        """Log-odds of the behaviour, a mean over the prompts, of the model as it is now."""
        p = self.probabilities(model)
        return float(((p + 1e-8).log() - (1 - p + 1e-8).log()).mean())

    def probabilities(self, model: LanguageModel) -> Float[Tensor, " row"]:
        """P of each prompt, float64."""
        return (next_log_probs(model, self.batch).exp() * self.is_start).sum(-1)


@final
@dataclass(frozen=True)
class Bench:
    """Prompts of both sides, text whose next token is to stay as it is, and in words how the behaviour is told."""

    target: JudgedPrompts
    other: JudgedPrompts
    calm: TokenBatch
    said: str


def next_log_probs(model: LanguageModel, batch: TokenBatch) -> Float[Tensor, "row d_vocab"]:
    """Of the token after each row, float64."""
    with torch.no_grad():
        logits, _ = model.step(batch, model.new_cache(), 0)
    return logits.double().log_softmax(-1)


def bench(model: LanguageModel, demonstrations: Demonstrations, judged: ConceptPrompts, answers: Sequence[str], seed: int) -> Bench:
    """Prompts to judge directions on.

    Where sides are answers to the same prompts, both are these prompts without an answer, and neutral text is to stay as it is; else the
    other side's prompts are.

    Args:
        judged: the validation prompts. answers: starts of the behaviour; those of the rows' positive answers if there are none.

    Raises:
        NotEnoughData: nothing says which answers are the behaviour.
    """
    sides = [[text for text, one in zip(judged.texts, judged.sides) if one == side] for side in ("target", "anti_target")]
    texts = [list(dict.fromkeys(side)) for side in sides] if judged.ends else sides
    starts, said = _starts(model, demonstrations, answers, [*texts[0], *texts[1]])
    n = len(texts[0])
    target, other = (JudgedPrompts.of(model, *part) for part in ((texts[0], starts[:n]), (texts[1], starts[n:])))
    calm = model.tokens(list(neutral_of(model, demonstrations, seed).held)) if judged.ends else other.batch
    return Bench(target, other, calm, said)


def _starts(
    model: LanguageModel, demonstrations: Demonstrations, answers: Sequence[str], texts: Sequence[Prompt]
) -> tuple[list[tuple[int, ...]], str]:
    """First tokens of the behaviour after each text, and what they are, in words.

    All starts of the answers where these are few. Else each prompt's own where every one has some: an answer to another question is no
    sign of the behaviour. Else the likeliest few.
    """
    space = "" if texts and all(isinstance(text, Conversation) for text in texts) else " "
    told = tuple(space + text.strip() for text in answers)
    pooled = list(dict.fromkeys(first_token(model, text) for text in told or behaviour(demonstrations.split("fit"))))
    if not pooled:
        raise NotEnoughData(
            "The positive answers begin in 0 ways: no row has one, which would show what the behaviour is.",
            "Set answers to how the behaviour begins, for example Sorry, or set layer and positions=1 to skip the choice.",
        )
    if told or len(pooled) <= MAX_STARTS:
        return [tuple(pooled)] * len(texts), f"answers that begin with {_listed(model, pooled)}"
    own: dict[Prompt, set[int]] = {}
    for row in demonstrations.split("fit", "validation").having("positive"):
        own.setdefault(row.prompt, set()).add(first_token(model, str(row.positive)))
    if all(text in own for text in texts):
        return [tuple(sorted(own[text])) for text in texts], f"each prompt's own positive answers, which begin in {len(pooled)} ways"
    p = next_log_probs(model, model.tokens(list(texts))).exp().mean(0)[pooled]
    best = p.argsort(descending=True, stable=True)[:MAX_STARTS].tolist()
    kept = [pooled[i] for i in best]
    share = float(p[best].sum() / p.sum().clamp_min(1e-30))
    said = f"answers that begin with {_listed(model, kept)}, the likeliest of {len(pooled)} starts, with {share:.0%} of their probability"
    return [tuple(kept)] * len(texts), said


def _listed(model: LanguageModel, tokens: Sequence[int]) -> str:
    return ", ".join(repr(str(model.tokenizer.decode([token]))) for token in tokens)
