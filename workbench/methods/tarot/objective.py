"""The objective of a search: q angle vectors over all training prompts are one forward.

The candidates are lanes of one batch, row group i turned by the angles of candidate i. With common random numbers f is deterministic:
f(Theta) asked twice is the same number. Ref: docs/methods/tarot.md §3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch

from workbench.conversations import Prompt
from workbench.decode import Sampling, generate
from workbench.edits.base import Edit
from workbench.forks import Recurring, runs_apart, widened
from workbench.methods.tarot.config import TarotConfig
from workbench.methods.tarot.edit import HEADS_KIND, MLP_KIND, turner
from workbench.methods.tarot.task import Task, beginnings, decided, masked_to
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch, running
from workbench.numerics.rotations import AngleSpace
from workbench.shapes import Float, Int, Tensor
from workbench.sites import Site

Reward = Callable[[Sequence[str]], Float[Tensor, " text"]]
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Answered:
    """How prompts are answered: whether with their answer token, that token's probability, and the token that each is answered with."""

    right: Float[Tensor, "lane row"]
    p: Float[Tensor, "lane row"]
    tokens: Int[Tensor, "lane row"]


@final
class AngleObjective:
    """Score points of the unit cube: mean over training prompts, maximised."""

    def __init__(
        self,
        model: LanguageModel,
        space: AngleSpace,
        config: TarotConfig,
        task: Task,
        held: Float[Tensor, "layer head d_head"] | None = None,
        *,
        redraw: Callable[[int], Task] | None = None,
        calls_done: int = 0,
        keeps_prefix: bool = True,
    ) -> None:
        """Prepare a search.

        Args:
            held: value biases that do not turn.
            redraw: the task of a call's number, where demonstrations are drawn anew at every call.
            calls_done: calls of a resumed search.
            keeps_prefix: compute what lies below the first edited layer once, and the demonstrations that stand before several prompts
                once a candidate, where the model can be taken apart; False is the slow reference.
        """
        self.model, self.space, self.config, self.task, self.held = model, space, config, task, held
        self._redraw, self._calls, self._keeps_prefix = redraw, calls_done, keeps_prefix
        self._answered: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}

    @cached_property
    def _prompts(self) -> Recurring | None:
        """The prompts, each with its answer token behind it; None where all is run anew."""
        task = self.task
        whole = [[*ids, answer] for ids, answer in zip(task.prompts.real_ids, task.answers.tolist())]
        return self._kept(TokenBatch.of(whole, beginnings(task), self.model.device))

    @cached_property
    def _whole(self) -> Recurring | None:
        return self._kept(self.task.whole)

    def _kept(self, batch: TokenBatch) -> Recurring | None:
        is_apart = self._keeps_prefix and runs_apart(self.model)
        return Recurring(self.model, batch, min(self.space.layers)) if is_apart else None

    def __call__(self, points: Float[Tensor, "lane dim"]) -> Float[Tensor, " lane"]:
        """Return f of each point."""
        redraw = self._redraw
        if redraw is not None:
            values = [self._on(redraw(call), point) for call, point in enumerate(points, start=self._calls)]
            self._calls += len(points)
            return torch.stack(values)
        return self.per_prompt(points).mean(-1)

    def per_prompt(self, points: Float[Tensor, "lane dim"]) -> Float[Tensor, "lane row"]:
        """Return the score of each prompt under each point."""
        step = max(1, _ROWS_AT_ONCE // len(self.task))
        parts = [self._scored(points[start : start + step]) for start in range(0, len(points), step)]
        return torch.cat(parts).double().cpu()

    def answers(self, points: Float[Tensor, "lane dim"]) -> Answered:
        """Return how each prompt is answered under each point; a point that was asked before is not run again."""
        known, keys = self._answered, [point.double().cpu().numpy().tobytes() for point in points]
        new = [at for at, key in enumerate(keys) if key not in known]
        step = max(1, _ROWS_AT_ONCE // len(self.task))
        for start in range(0, len(new), step):
            some = new[start : start + step]
            logits = self._last_logits(points[some])
            right = scores(self.task, logits, "accuracy", self.config.answers).double().cpu()
            p = scores(self.task, logits, "prob", self.config.answers).double().cpu()
            tokens = decided(self.task, logits, self.config.answers).cpu()
            known.update((keys[at], one) for at, one in zip(some, zip(right, p, tokens)))
        return Answered(*(torch.stack(found) for found in zip(*(known[key] for key in keys))))

    def _on(self, task: Task, point: Float[Tensor, " dim"]) -> Float[Tensor, ""]:
        return AngleObjective(self.model, self.space, self.config, task, self.held, keeps_prefix=False)(point[None])[0]

    def _scored(self, points: Float[Tensor, "lane dim"]) -> Float[Tensor, "lane row"]:
        if self.config.objective == "loglik":
            return self._log_likelihood(points)
        return scores(self.task, self._last_logits(points), self.config.objective, self.config.answers)

    @torch.no_grad()
    def _last_logits(self, points: Float[Tensor, "lane dim"]) -> Float[Tensor, "lane row d_vocab"]:
        kept, task = self._prompts, self.task
        if kept is None:
            index = by_length(task.prompts.lengths)
            parts = [self._run(points, task.prompts.rows(rows).trimmed(), last=True)[:, :, -1] for rows in index]
            return torch.cat(parts, 1)[:, torch.cat(index).argsort().to(parts[0].device)]
        at = task.prompts.lengths - torch.tensor(beginnings(task), device=self.model.device)
        with self.model.intercepts(self._hooks(points)):
            x = kept.leaving(len(points))
        return widened(self.model.unembed(x[:, torch.arange(len(task), device=x.device), at]))

    @torch.no_grad()
    def _log_likelihood(self, points: Float[Tensor, "lane dim"]) -> Float[Tensor, "lane row"]:
        kept, whole = self._whole, self.task.whole
        if kept is None:
            return _log_likelihood(whole, self._run(points, whole, last=False))
        with self.model.intercepts(self._hooks(points)):
            log_p = widened(self.model.unembed(kept.leaving(len(points)))).log_softmax(-1)
        found = torch.zeros(log_p.shape[:2], dtype=log_p.dtype, device=log_p.device)
        for row, (ids, n) in enumerate(zip(whole.real_ids, whole.n_prompt.tolist())):
            found[:, row] = log_p[:, row, torch.arange(len(ids) - n), ids[n:]].sum(-1)
        return found

    def _run(self, points: Float[Tensor, "lane dim"], batch: TokenBatch, *, last: bool) -> Float[Tensor, "lane row pos d_vocab"]:
        """The logits of every position, or of the last alone, all run anew."""
        whole = batch.repeat(len(points))
        with torch.no_grad(), self.model.intercepts(self._hooks(points)), running(whole.forward()):
            logits = self.model.run(whole, last_only=last)[0]
        return widened(logits).unflatten(0, (len(points), len(batch)))

    def _hooks(self, points: Tensor) -> list[tuple[Site, ReadWrite]]:
        space = self.space
        angles = space.angles(points).to(self.model.device)
        kind = MLP_KIND if space.variant == "mlp" else HEADS_KIND
        held: Sequence[Tensor | None] = [None] * len(space.layers) if self.held is None else list(self.held)
        return [(Site(kind, layer), turner(space.variant, angles[:, i], held[i])) for i, layer in enumerate(space.layers)]


def by_length(lengths: Int[Tensor, " row"]) -> list[Int[Tensor, " _row"]]:
    """Part rows so that none is padded to more than half as long again as it is."""
    order = lengths.argsort(stable=True)
    groups: list[list[int]] = []
    shortest = 0
    for row in order.tolist():
        if not groups or int(lengths[row]) > 1.5 * shortest:
            groups.append([])
            shortest = int(lengths[row])
        groups[-1].append(row)
    return [torch.tensor(group) for group in groups]


def scores(task: Task, logits: Float[Tensor, "lane row d_vocab"], objective: str, answers: str) -> Float[Tensor, "lane row"]:
    """Return what an objective says of each prompt.

    prob: p(answer); accuracy: 1 where the answer is decided; margin: logit of the answer minus the largest other; logit_gain: logit minus
    the unedited one; rank: minus the number of tokens above it. `answers = labels` compares within the row's candidates only.
    """
    if answers == "labels":
        logits = masked_to(logits, task.candidates)
    at = task.answers.expand(logits.shape[0], -1)[..., None]
    own = logits.gather(-1, at)
    if objective == "prob":
        return (own - logits.logsumexp(-1, keepdim=True)).exp()[..., 0]
    if objective == "accuracy":
        return (logits.argmax(-1) == at[..., 0]).to(logits.dtype)
    if objective == "margin":
        return (own[..., 0] - logits.scatter(-1, at, -torch.inf).amax(-1)).clamp(-1e3, 1e3)
    if objective == "rank":
        return -(logits > own).sum(-1).to(logits.dtype)
    return own[..., 0] - task.base_logit.to(logits)


def _log_likelihood(whole: TokenBatch, logits: Float[Tensor, "lane row pos d_vocab"]) -> Float[Tensor, "lane row"]:
    found = _next_token(logits, whole)
    mine = whole.mask & (whole.positions >= whole.n_prompt[:, None])
    return torch.where(mine[:, 1:], found, 0.0).sum(-1)


def _next_token(logits: Float[Tensor, "lane row pos d_vocab"], whole: TokenBatch) -> Float[Tensor, "lane row next"]:
    targets = whole.ids[:, 1:].expand(logits.shape[0], -1, -1)
    before = logits[..., :-1, :]
    return before.gather(-1, targets[..., None])[..., 0] - before.logsumexp(-1)


def generation_objective(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    reward: Reward,
    edit_of: Callable[[Float[Tensor, " dim"]], Edit],
    new_tokens: int,
) -> Callable[[Float[Tensor, "lane dim"]], Float[Tensor, " lane"]]:
    """Return f(Theta) = mean reward of greedy continuations of the prompts; the candidates are lanes of one decode.

    Ref: docs/methods/tarot.md §3.3. Differs: any reward, always maximised (the released toxicity run kept the least safe points).
    """

    def objective(points: Float[Tensor, "lane dim"]) -> Float[Tensor, " lane"]:
        stacks = [(edit_of(point),) for point in points]
        made = generate(model, list(prompts), stacks, Sampling(max_new_tokens=new_tokens))
        return torch.stack([reward([row.text for row in lane]).double().mean() for lane in made])

    return objective
