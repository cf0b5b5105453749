"""Damage where it happens: how far lanes move the model on what it says itself, its greedy answers to prompts, token by token.

Neutral text is what others wrote; an edit that acts on answers leaves it alone and can still change every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from workbench.conversations import Prompt
from workbench.decode import Sampling, generate
from workbench.edits.prompting import Prompting
from workbench.evaluate.divergences import divergences_of
from workbench.evaluate.metrics import Lanes
from workbench.forks import predicting
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch, prompt_ids
from workbench.progress import Progress, silent
from workbench.score import Divergences

ANSWER_TOKENS = 24


@dataclass(frozen=True)
class OwnAnswers:
    """Prompts and the ids of the unedited model's greedy answers; prompts that it does not answer are left out."""

    prompts: tuple[Prompt, ...]
    ids: tuple[tuple[int, ...], ...]


# Answers of a model are the same under every edit; weights do not change while a model is at hand.
_said: WeakKeyDictionary[LanguageModel, dict[Prompt, tuple[int, ...]]] = WeakKeyDictionary()


def own_answers(model: LanguageModel, prompts: Sequence[Prompt], *, progress: Progress | None = None) -> OwnAnswers:
    """What the unedited model answers, greedily, at most `ANSWER_TOKENS` tokens. Raises: as `decode`."""
    known = _said.setdefault(model, {})
    if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]:
        how = Sampling(max_new_tokens=min(ANSWER_TOKENS, model.info.n_ctx // 2))
        (found,) = generate(model, new, sampling=how, progress=progress)
        known |= {prompt: one.ids for prompt, one in zip(new, found)}
    kept = [prompt for prompt in prompts if known[prompt]]
    return OwnAnswers(tuple(kept), tuple(known[prompt] for prompt in kept))


def answer_divergences(model: LanguageModel, said: OwnAnswers, lanes: Lanes, *, progress: Progress | None = None) -> Divergences:
    """KL(unedited ‖ lane) and −log p, in nats, at every token of the answers; what a lane says stands before the prompt.

    Raises:
        BadPrompt: a prompt behind what a lane says, and its answer, are longer than the context. Others: as `engine.lanes`.
    """

    def rows(before: Prompting | None) -> list[list[int]]:
        asked = said.prompts if before is None else [before.on(prompt) for prompt in said.prompts]
        return [[*prompt_ids(model.tokenizer, prompt), *ids] for prompt, ids in zip(asked, said.ids)]

    plain = rows(None)
    batch = TokenBatch.of(plain, [len(row) - len(ids) for row, ids in zip(plain, said.ids)], model.device)
    counted = predicting(batch) & (batch.positions >= batch.n_prompt[:, None] - 1)
    with torch.no_grad():
        return divergences_of(model, batch, lanes, counted, behind=rows, progress=progress or silent())
