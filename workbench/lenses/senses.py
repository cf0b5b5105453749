"""The sense explorer: what each sense of a word promotes, where a prompt reads it, and what one taught example would move.

Every number is exact, not an approximation: a Backpack's logit of a token is the sum, over positions and senses, of
α[l,t,j] · E[token]·C(x_j)_l. Ref: docs/methods/senses.md §2.3, §2.4; *Backpack Language Models*, arXiv 2305.16765.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.errors import Obstructed
from workbench.methods import get
from workbench.methods.registry import FitReport
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.models.token_texts import one_token, token_texts
from workbench.models.tokens import running
from workbench.progress import Progress, silent
from workbench.score import continuation_scores
from workbench.shapes import Float
from workbench.sites import Site

N_DRAWS = 200
"""Draws of random senses, for what the shared direction of nothing holds."""


@dataclass(frozen=True)
class WordSenses:
    """The senses of one word: tokens that each promotes and demotes, by E·C(v)_l, and how alike the senses are (cosines).

    Most senses of most words say the word itself, or keep it from being said again, along one direction. `shared` holds the tokens of that
    direction (the leading right singular vector of the senses, turned so that it promotes the word), `along` each sense's cosine with it,
    `share` its share of all their squares, `random_share` that of as many random vectors of these lengths, a mean over draws. `beyond`
    is what each sense promotes once that direction is taken out: there the senses differ. `ranks` says how many tokens each sense promotes
    more than the word itself.
    """

    model: str
    word: str
    token: int
    promotes: tuple[tuple[str, ...], ...]
    demotes: tuple[tuple[str, ...], ...]
    norms: Float[np.ndarray, " sense"]
    likeness: Float[np.ndarray, "sense sense"]
    ranks: tuple[int, ...]
    shared: tuple[str, ...]
    along: Float[np.ndarray, " sense"]
    share: float
    random_share: float
    beyond: tuple[tuple[str, ...], ...]

    @property
    def says_itself(self) -> tuple[int, ...]:
        """The senses that promote the word itself above every other token."""
        return tuple(sense for sense, rank in enumerate(self.ranks) if rank == 0)

    def rows(self) -> list[dict[str, Any]]:
        """One table row a sense."""
        return [
            {
                "sense": i, "beyond what all share": "  ".join(map(_shown, self.beyond[i])),
                "the word itself": f"{rank:,} tokens before it" if rank else "says it",
                "along the shared": round(float(self.along[i]), 2),
                "promotes": "  ".join(map(_shown, self.promotes[i])), "demotes": "  ".join(map(_shown, self.demotes[i])),
                "length": float(self.norms[i]),
            }
            for i, rank in enumerate(self.ranks)
        ]  # fmt: skip


def _shown(token: str) -> str:
    return token.replace(" ", "␣").replace("\n", "⏎")


def senses(model: LanguageModel, word: str, *, top_k: int = 8, progress: Progress | None = None) -> WordSenses:
    """Return what each sense of a word promotes, whatever the context, and what it promotes beyond what all of them share.

    Raises:
        Obstructed: the model is no Backpack. BadPrompt: the word is not one token.
    """
    owner, tell = backpack(model), progress or silent()
    token = one_token(owner, word)
    table = owner.senses(torch.tensor([token]))[0].double()  # (sense, d_model)
    vocabulary = owner.embedding[: owner.n_tokens].double()
    scores, k = table @ vocabulary.T, min(top_k, owner.n_tokens)
    axis = torch.linalg.svd(table, full_matrices=False).Vh[0]
    axis = axis * torch.sign(vocabulary[token] @ axis)
    rest = (table - (table @ axis)[:, None] * axis) @ vocabulary.T
    lengths = table.norm(dim=1).clamp_min(1e-12)
    up, down, beyond = scores.topk(k).indices, (-scores).topk(k).indices, rest.topk(k).indices
    texts = [tuple(token_texts(owner.tokenizer, row) for row in part) for part in (up, down, beyond)]
    unit = table / lengths[:, None]
    tell(1.0, "Done")
    return WordSenses(
        owner.info.name, token_texts(owner.tokenizer, [token])[0], token, texts[0], texts[1], lengths.numpy(), (unit @ unit.T).numpy(),
        tuple(int(n) for n in (scores > scores[:, token : token + 1]).sum(1)),
        token_texts(owner.tokenizer, (vocabulary @ axis).topk(min(4, k)).indices), (unit @ axis).numpy(),
        float((table @ axis).square().sum() / table.square().sum()), _random_share(lengths, table.shape[1]), texts[2],
    )  # fmt: skip


def _random_share(lengths: Float[torch.Tensor, " sense"], width: int) -> float:
    """The share of all squares that the leading direction of random vectors of these lengths holds, a mean over seeded draws."""
    draws = torch.randn(N_DRAWS, len(lengths), width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = draws / draws.norm(dim=2, keepdim=True) * lengths[:, None]
    return float((torch.linalg.svdvals(drawn)[:, 0].square() / lengths.square().sum()).mean())


@dataclass(frozen=True)
class SenseReading:
    """How a prompt's positions read senses, lane by lane.

    `weights[lane, l, t, j]` is α. `contributions[lane, l, j]` is what sense l of token j adds to the logit of the target at the last
    position; over l and j they sum to that logit exactly.
    """

    model: str
    lanes: int
    tokens: tuple[str, ...]
    target: str
    weights: Float[np.ndarray, "lane sense pos pos"]
    contributions: Float[np.ndarray, "lane sense pos"]
    target_probability: Float[np.ndarray, " lane"]

    def rows(self, lane: int = 0, n: int = 12) -> list[dict[str, Any]]:
        """The largest contributions to the target's logit, as table rows."""
        flat = self.contributions[lane]
        order = np.argsort(-np.abs(flat), axis=None)[:n]
        places = [np.unravel_index(int(i), flat.shape) for i in order]
        last = self.weights.shape[2] - 1
        return [
            {"token": self.tokens[int(j)], "position": int(j), "sense": int(sense), "weight": float(self.weights[lane, sense, last, j]),
             "adds to the logit": float(flat[sense, j])}
            for sense, j in places
        ]  # fmt: skip


def sense_reading(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    targets: Sequence[str] = (),
    progress: Progress | None = None,
) -> SenseReading:
    """Return the contextualisation weights of a prompt, and who makes the target likely at its end.

    The target is the first of `targets`, else the likeliest next token of the first lane.

    Raises:
        Obstructed: the model is no Backpack. Others: as `LanguageModel.tokens` and `engine.lanes`.
    """
    owner, tell = backpack(model), progress or silent()
    batch = owner.tokens(prompt)
    whole, n_lanes = batch.repeat(len(stacks)), len(stacks)
    read: list[torch.Tensor] = []

    with torch.no_grad(), lanes(owner, stacks), owner.intercept(Site("sense"), read.append):
        logits = owner.logits(whole)[:, -1].float()
    with torch.no_grad(), lanes(owner, stacks), running(whole.forward()):
        alpha = owner.network.contextualisation(whole.ids, whole.mask).float()
    target = one_token(owner, targets[0]) if targets else int(logits[0].argmax())
    tell(0.8, "Reading senses")
    table = read[0].float().unflatten(-1, (owner.n_senses, -1))  # (lane, pos, sense, d_model)
    pull = table @ owner.embedding[target].float()  # (lane, pos, sense)
    contributions = alpha[:, :, -1] * pull.transpose(1, 2)
    tell(1.0, "Done")
    return SenseReading(
        owner.info.name, n_lanes, token_texts(owner.tokenizer, batch.ids[0]), token_texts(owner.tokenizer, [target])[0],
        alpha.numpy(), contributions.numpy(), logits.softmax(-1)[:, target].numpy(),
    )  # fmt: skip


@dataclass(frozen=True)
class Taught:
    """What one canonical example teaches: the edit, the senses that move and why, and questions before and after."""

    edit: Edit
    report: FitReport
    questions: tuple[str, ...]
    """As a person reads them."""
    answer: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    likeliest_before: tuple[str, ...] = field(default=())
    likeliest_after: tuple[str, ...] = field(default=())

    def rows(self) -> list[dict[str, Any]]:
        """One table row a question: the answer's probability and the likeliest next token, before and after."""
        return [
            {"question": q, f"p({self.answer.strip()}) before": b, "after": a, "said before": x, "says now": y}
            for q, b, a, x, y in zip(self.questions, self.before, self.after, self.likeliest_before, self.likeliest_after)
        ]


def taught_example(
    model: LanguageModel,
    prompt: Prompt,
    answer: str,
    questions: Sequence[Prompt] = (),
    *,
    method: str,
    unwanted: str = "",
    config: dict[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Taught:
    """Teach one sentence and ask in other words.

    Args:
        prompt: the beginning of the sentence; the first question is always the prompt itself.
        answer: how it ends. unwanted: what it must not end with; with both, the loss is good-v-bad.
        questions: prompts that the answer should continue too.
        method: which method teaches it; its edits are of senses.
        config: knobs of the method.

    Raises:
        Obstructed: the model is no Backpack. UnknownMethod: nobody registered it. Others: as the method.
    """
    owner, tell = backpack(model), progress or silent()
    row = Demonstration(prompt, answer or None, unwanted or None, split="fit")
    known = get(method)
    fitted = known.fit(
        owner, Demonstrations((row,), "one example"), known.configure(config or {}), seed=seed, progress=tell.part(0.0, 0.85)
    )
    asked = tuple(dict.fromkeys([prompt, *(question for question in questions if str(question).strip())]))
    said = answer or unwanted
    stacks = [(), (fitted.edit,)]
    scores = continuation_scores(owner, asked, [said] * len(asked), stacks, progress=tell.part(0.85, 0.95)).total.exp()
    batch = owner.tokens(list(asked))
    with torch.no_grad(), lanes(owner, stacks):
        best = owner.logits(batch.repeat(2))[:, -1].argmax(-1).view(2, -1)
    tops = [token_texts(owner.tokenizer, row_ids) for row_ids in best]
    tell(1.0, "Done")
    return Taught(
        fitted.edit, fitted.report, tuple(map(str, asked)), said, tuple(scores[0].tolist()), tuple(scores[1].tolist()), tops[0], tops[1]
    )


def backpack(model: LanguageModel) -> BackpackModel:
    """Return the model as a Backpack.

    Raises:
        Obstructed: it is none.
    """
    if not isinstance(model, BackpackModel):
        raise Obstructed(f"{model.info.name} has no senses: it is no Backpack.", "Load embedded-backpack on the page Model.")
    return model
