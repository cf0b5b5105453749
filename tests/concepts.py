"""Invented concepts in the tiny models' words, for tests of methods that read two sets of prompts."""

from __future__ import annotations

import torch

from tests.conftest import words
from workbench.data.demonstrations import Demonstration, Demonstrations, Split

SPLITS: tuple[Split, ...] = ("fit", "fit", "fit", "validation", "test")


def concept_rows(n: int = 60, seed: int = 0) -> Demonstrations:
    """Prompts that end in w1 … w3 (target) and in w50 … w52 (anti-target), after random words."""
    draw = torch.Generator().manual_seed(seed)
    rows: list[Demonstration] = []
    for i in range(n):
        label, first = (("target", 1), ("anti_target", 50))[i % 2]
        before = torch.randint(10, 50, (2 + i % 4,), generator=draw).tolist()
        text = words(*before, first + int(torch.randint(3, (1,), generator=draw)))
        rows.append(Demonstration(text, label=label, split=SPLITS[(i // 2) % 5], id=f"concept-{i}"))
    return Demonstrations(tuple(rows), "endings")


def meaningless_rows(n: int = 80, seed: int = 0) -> Demonstrations:
    """Random prompts with random sides: nothing tells the sides apart."""
    draw = torch.Generator().manual_seed(seed)
    rows: list[Demonstration] = []
    for i in range(n):
        text = words(*torch.randint(10, 90, (4,), generator=draw).tolist())
        label = ("target", "anti_target")[i % 2]
        rows.append(Demonstration(text, label=label, split=SPLITS[(i // 2) % 5], id=f"random-{i}"))
    return Demonstrations(tuple(rows), "meaningless")
