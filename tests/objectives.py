"""Planted objectives, and a search over one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workbench.search import Found, SearchConfig, maximise

Objective = Callable[[torch.Tensor], torch.Tensor]


def quadratic(dim: int, seed: int) -> Objective:
    optimum = 0.2 + 0.6 * torch.rand(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda u: -(u - optimum).square().sum(-1)


def logistic(dim: int, seed: int) -> Objective:
    weight = torch.randn(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda u: torch.sigmoid(4 * (u - 0.5) @ weight / weight.norm() - 0.2)


def found(optimizer: str, objective: Objective, dim: int = 5, seed: int = 0, budget: int = 24, **more: object) -> Found:
    config = SearchConfig(dim=dim, optimizer=optimizer, budget=budget, n_init=6, seed=seed, **more)  # type: ignore[arg-type]
    return maximise(objective, config)
