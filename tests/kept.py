"""What a workspace keeps: a demonstration set and an edit."""

from __future__ import annotations

import torch

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Header
from workbench.methods.directions.mean_difference import AdditionEdit
from workbench.models.base import Fingerprint


def rows(*prompts: str, name: str = "pairs") -> Demonstrations:
    return Demonstrations(tuple(Demonstration(prompt, " good", tags=("a;b",)) for prompt in prompts), name)


def edit(value: float = 1.0) -> AdditionEdit:
    fingerprint = Fingerprint("tiny", "", "float32", "raw", "abc")
    header = Header("mean_difference", {"strength": 2.0}, fingerprint, "data", 0, {"torch": "2"}, {"layers": [1]})
    return AdditionEdit(header, {1: torch.full((4,), value)})
