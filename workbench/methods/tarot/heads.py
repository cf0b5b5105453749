"""Which heads matter for a task: evidence from ablation or attribution, before any angle turns.

Turning only relevant heads shrinks the search: 4 heads of d_head 32 are 64 angles where two layers of 6 heads are 192.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from workbench.errors import BadKnob
from workbench.methods.shared.layers import SMALL
from workbench.methods.tarot.config import TarotConfig
from workbench.methods.tarot.objective import scores
from workbench.methods.tarot.task import Task
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import running
from workbench.shapes import Activations, Float, Int, Tensor
from workbench.sites import Site

_TOKENS_AT_ONCE = 1024
"""Tokens of a pass, padding and lanes included: what a pass down keeps of a network of 30 layers stays below a gigabyte."""
_READ_IN_LARGE = 16
"""Prompts that rank heads in a network of 30 million parameters and more, where each costs a second and more."""
EVIDENCE_OBJECTIVE = "margin"


@dataclass(frozen=True, eq=False)
class HeadEvidence:
    """Hold how much the margin of the right answer hangs on each head.

    ablation: |margin with z = its mean over the prompts - margin|, averaged over the prompts. attribution: |z . d margin / d z|, the same
    to first order, for all heads from one backward pass.
    """

    kind: str
    layers: tuple[int, ...]
    relevance: Float[Tensor, "layer head"]

    def top(self, count: int) -> tuple[tuple[int, int], ...]:
        """Return the most relevant heads, in the order of the network."""
        n_heads = self.relevance.shape[1]
        found = self.relevance.flatten().topk(min(count, self.relevance.numel())).indices.tolist()
        return tuple(sorted((self.layers[index // n_heads], index % n_heads) for index in found))


def rank_heads(model: LanguageModel, task: Task, config: TarotConfig, layers: Sequence[int]) -> HeadEvidence:
    """Return the relevance of every head of `layers` for answering the task's prompts (docs/methods/tarot.md §3.5).

    Raises:
        BadKnob: no layer.
    """
    if not layers:
        raise BadKnob("There is no layer whose heads could be ranked.", "Choose layers.")
    every = 1 if model.info.n_parameters < SMALL else math.ceil(len(task) / _READ_IN_LARGE)
    read = _rows_of(task, torch.arange(0, len(task), every))  # those answered right come first
    parts = [_rows_of(read, index) for index in _parts(read.prompts.lengths)]
    rank = _ablated if config.rank_by == "ablation" else _attributed
    return HeadEvidence(config.rank_by, tuple(layers), rank(model, parts, config, layers) / len(read))


def _parts(lengths: Int[Tensor, " row"]) -> list[Int[Tensor, " _row"]]:
    """Rows of like length, together at most `_TOKENS_AT_ONCE` tokens, or one row."""
    parts: list[list[int]] = []
    for row in lengths.argsort(stable=True).tolist():
        if not parts or (len(parts[-1]) + 1) * int(lengths[row]) > _TOKENS_AT_ONCE:
            parts.append([])
        parts[-1].append(row)
    return [torch.tensor(part) for part in parts]


def _rows_of(task: Task, index: Int[Tensor, " _row"]) -> Task:
    rows, shown = (tuple(of[i] for i in index.tolist()) for of in (task.rows, task.shown))
    return replace(
        task,
        rows=rows,
        shown=shown,
        prompts=task.prompts.rows(index).trimmed(),
        whole=task.whole.rows(index).trimmed(),
        answers=task.answers[index],
        candidates=task.candidates[index],
        base_logit=task.base_logit[index],
    )


def _ablated(model: LanguageModel, parts: Sequence[Task], config: TarotConfig, layers: Sequence[int]) -> Float[Tensor, "layer head"]:
    n_heads, d_head = model.info.n_heads, model.info.d_head
    means = _means(model, parts, layers)
    found = torch.zeros(len(layers), n_heads, dtype=torch.float64)
    for part in parts:
        at_once = max(1, _TOKENS_AT_ONCE // part.prompts.ids.numel())
        base = _margins(model, part, config, 1, [])[0]
        for at, layer in enumerate(layers):
            for start in range(0, n_heads, at_once):
                heads = range(start, min(n_heads, start + at_once))
                ablated = _margins(model, part, config, len(heads), [(Site("head_z", layer), _set_to(means[at], heads, d_head))])
                found[at, start : heads.stop] += (ablated - base).abs().sum(-1).double().cpu()
    return found


def _means(model: LanguageModel, parts: Sequence[Task], layers: Sequence[int]) -> list[Float[Tensor, " d"]]:
    """z of each layer, meaned over all tokens of all prompts."""
    sums: list[Tensor | float] = [0.0] * len(layers)

    def counted(at: int, real: Tensor) -> ReadWrite:
        def add(x: Activations) -> None:
            sums[at] = sums[at] + x[real].sum(0)

        return add

    for part in parts:
        hooks = [(Site("head_z", layer), counted(at, part.prompts.mask)) for at, layer in enumerate(layers)]
        with torch.no_grad(), model.intercepts(hooks), running(part.prompts.forward()):
            model.run(part.prompts, last_only=True)
    n_tokens = sum(int(part.prompts.mask.sum()) for part in parts)
    return [torch.as_tensor(total) / n_tokens for total in sums]


def _set_to(mean: Float[Tensor, " d"], heads: range, d_head: int) -> ReadWrite:
    """Lane i with the i-th of the heads at its mean."""

    def ablate(x: Activations) -> Activations:
        y = x.clone()
        for lane, head in zip(y.chunk(len(heads)), heads):
            columns = slice(head * d_head, (head + 1) * d_head)
            lane[..., columns] = mean[columns]
        return y

    return ablate


def _margins(
    model: LanguageModel, task: Task, config: TarotConfig, n_lanes: int, hooks: list[tuple[Site, ReadWrite]]
) -> Float[Tensor, "lane row"]:
    whole = task.prompts.repeat(n_lanes)
    with torch.no_grad(), model.intercepts(hooks), running(whole.forward()):
        logits = model.run(whole, last_only=True)[0][:, -1]
    return scores(task, logits.view(n_lanes, len(task), -1), EVIDENCE_OBJECTIVE, config.answers)


def _attributed(model: LanguageModel, parts: Sequence[Task], config: TarotConfig, layers: Sequence[int]) -> Float[Tensor, "layer head"]:
    """All layers from one pass up and down a part: the gradient at a layer is that of all that comes behind it."""
    found, order = torch.zeros(len(layers), model.info.n_heads, dtype=torch.float64), sorted(layers)
    for part in parts:
        seen: list[Tensor] = []

        def watch(x: Activations, seen: list[Tensor] = seen) -> Activations:
            seen.append(x if x.requires_grad else x.detach().requires_grad_(True))
            return seen[-1]

        hooks = [(Site("head_z", layer), watch) for layer in order]
        with torch.enable_grad(), model.intercepts(hooks), running(part.prompts.forward()):
            logits = model.run(part.prompts, last_only=True)[0][:, -1]
            gradients = torch.autograd.grad(scores(part, logits[None], EVIDENCE_OBJECTIVE, config.answers).sum(), seen)
        for layer, z, gradient in zip(order, seen, gradients):
            product = (z.detach() * gradient).view(len(part), -1, model.info.n_heads, model.info.d_head)
            found[layers.index(layer)] += product.sum((1, 3)).abs().sum(0).double().cpu()
    return found
