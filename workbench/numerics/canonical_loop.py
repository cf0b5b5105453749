"""The optimisation loop that senses, LoRA and full finetuning share: batch size 1, groups of five, Adam, a cosine
per epoch.

    lr in epoch e = lr·(1+cos(π(e−1)/epochs))/2 ;   Adam(betas (0.9, 0.995), eps 1e-8, no weight decay)
    per example: ∇L(example) + w·∇KL(one random neutral chunk) ; a step after each group

`fixed`: a step follows the mean gradient of its group, and the last group of an epoch may be short. `official`: as
released, a step sees only the fifth example and its chunk, and a short last group is dropped (docs/methods/senses.md §5).

Ref: docs/methods/senses.md §3.1. Differs: plain fp32 Adam for bitsandbytes' 8-bit Adam unless asked for; `fixed` is the default.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.progress import stop_if_asked

Draw = tuple[int, int]  # (index of the example, index of its neutral chunk)
Schedule = Callable[[int], Sequence[Draw]]  # epoch from 1 → the draws of that epoch, in order
Gradients = Callable[[Sequence[Draw]], Sequence[Tensor]]  # Σ over draws of ∇L + w·∇KL, one tensor per parameter


@dataclass(frozen=True)
class LoopSettings:
    """How to descend."""

    lr: float
    epochs: int = 10
    group: int = 5
    accumulate: Literal["fixed", "official"] = "fixed"
    betas: tuple[float, float] = (0.9, 0.995)
    eps: float = 1e-8
    optimiser: Literal["adam", "adam8bit"] = "adam"
    cosine_epochs: int | None = None  # the cosine's length where a run stops early

    def lr_in(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / (self.cosine_epochs or self.epochs))) / 2


def seeded_schedule(n_examples: int, n_chunks: int, generator: torch.Generator) -> Schedule:
    """Return draws that shuffle the examples anew each epoch and give each a uniformly drawn chunk."""

    def draws(_epoch: int) -> list[Draw]:
        order = torch.randperm(n_examples, generator=generator).tolist()
        chunks = torch.randint(n_chunks, (n_examples,), generator=generator).tolist() if n_chunks else [0] * n_examples
        return list(zip(order, chunks, strict=True))

    return draws


def has_adam8bit() -> bool:
    """Whether bitsandbytes, which has the 8-bit Adam of the released runs, is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def optimiser_of(parameters: Sequence[Tensor], settings: LoopSettings) -> torch.optim.Optimizer:
    """Make the optimiser: 8-bit Adam where it is asked for and installed, else plain Adam."""
    kind = torch.optim.Adam
    if settings.optimiser == "adam8bit" and has_adam8bit():
        kind = importlib.import_module("bitsandbytes.optim").Adam8bit
    return kind(list(parameters), lr=settings.lr, betas=settings.betas, eps=settings.eps)


def descend(
    parameters: Sequence[Tensor], gradients: Gradients, schedule: Schedule, settings: LoopSettings, *, out: int | None = None
) -> Iterator[int]:
    """Train the parameters in place, yielding 0 before the first step and then each epoch's number after it.

    The caller evaluates between epochs; closing the iterator ends the run. `out` is an example whose draws are passed over: its group's
    mean is that of the others, and all else is as drawn.
    """
    optimiser = optimiser_of(parameters, settings)
    yield 0
    for epoch in range(1, settings.epochs + 1):
        optimiser.param_groups[0]["lr"] = settings.lr_in(epoch)
        draws = schedule(epoch)
        for start in range(0, len(draws), settings.group):
            stop_if_asked()
            group = draws[start : start + settings.group]
            if settings.accumulate == "official":
                if len(group) < settings.group:
                    continue
                group = group[-1:]
            if not (group := [draw for draw in group if draw[0] != out]):
                continue
            for parameter, gradient in zip(parameters, gradients(group), strict=True):
                parameter.grad = gradient / len(group)
            optimiser.step()
        yield epoch
