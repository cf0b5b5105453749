"""Which heads matter for a task: evidence from ablation or attribution, before any angle turns.

Turning only relevant heads shrinks the search: 4 heads of d_head 32 are 64 angles where two layers of 6 heads are 192.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.errors import BadKnob
from workbench.methods.tarot.config import TarotConfig
from workbench.methods.tarot.objective import scores
from workbench.methods.tarot.task import Task
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import running
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

_HEADS_AT_ONCE = 16
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
    rank = _ablated if config.rank_by == "ablation" else _attributed
    return HeadEvidence(config.rank_by, tuple(layers), torch.stack([rank(model, task, config, layer) for layer in layers]))


def _ablated(model: LanguageModel, task: Task, config: TarotConfig, layer: int) -> Float[Tensor, " head"]:
    n_heads, found = model.info.n_heads, list[Tensor]()
    base = _margins(model, task, config, 1, lambda x: None, layer)[0]
    for start in range(0, n_heads, _HEADS_AT_ONCE):
        heads = range(start, min(n_heads, start + _HEADS_AT_ONCE))
        ablated = _margins(model, task, config, len(heads), _mean_of(model, task, heads), layer)
        found.append((ablated - base).abs().mean(-1))
    return torch.cat(found).double().cpu()


def _mean_of(model: LanguageModel, task: Task, heads: range) -> ReadWrite:
    d_head, real = model.info.d_head, task.prompts.mask

    def ablate(x: Activations) -> Activations:
        y = x.clone()
        mean = x[: len(task)][real].mean(0)
        for lane, head in enumerate(heads):
            columns = slice(head * d_head, (head + 1) * d_head)
            y[lane * len(task) : (lane + 1) * len(task), :, columns] = mean[columns]
        return y

    return ablate


def _margins(model: LanguageModel, task: Task, config: TarotConfig, n_lanes: int, fn: ReadWrite, layer: int) -> Float[Tensor, "lane row"]:
    whole = task.prompts.repeat(n_lanes)
    with torch.no_grad(), model.intercept(Site("head_z", layer), fn), running(whole.forward()):
        logits = model.run(whole, last_only=True)[0][:, -1]
    return scores(task, logits.view(n_lanes, len(task), -1), EVIDENCE_OBJECTIVE, config.answers)


def _attributed(model: LanguageModel, task: Task, config: TarotConfig, layer: int) -> Float[Tensor, " head"]:
    seen: list[Tensor] = []

    def leaf(x: Activations) -> Activations:
        seen.append(x.detach().requires_grad_(True))
        return seen[0]

    with torch.enable_grad(), model.intercept(Site("head_z", layer), leaf), running(task.prompts.forward()):
        logits = model.run(task.prompts, last_only=True)[0][:, -1]
        margin = scores(task, logits[None], EVIDENCE_OBJECTIVE, config.answers).sum()
        (gradient,) = torch.autograd.grad(margin, seen[0])
    product = (seen[0].detach() * gradient).view(len(task), -1, model.info.n_heads, model.info.d_head)
    return product.sum((1, 3)).abs().mean(0).double().cpu()
