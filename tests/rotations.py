"""Rows with a label, and rotation edits to try on tiny models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.conftest import words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.methods.tarot.config import TarotConfig
from workbench.methods.tarot.edit import RotationEdit, fold_facts, value_bias
from workbench.models.base import LanguageModel
from workbench.numerics.rotations import AngleSpace

CLOSE = 3e-5  # float32 rounding of the same products in another order, logits of order 10


ADD, HELD = "included", "excluded"


def labelled(n: int = 60, seed: int = 0) -> Demonstrations:
    """Prompts of random words whose label is w1 or w2 at random."""
    draw = torch.Generator().manual_seed(seed)
    rows = [
        Demonstration(
            words(*torch.randint(10, 90, (3 + i % 4,), generator=draw).tolist()),
            label=f" w{1 + int(torch.randint(2, (1,), generator=draw))}",
            split=("fit", "fit", "fit", "validation", "test")[i % 5],
            id=f"row-{i}",
        )
        for i in range(n)
    ]
    return Demonstrations(tuple(rows), "random labels")


QUICK: dict[str, Any] = {
    "budget": 12, "n_init": 6, "n_train": 8, "n_val": 6, "answers": "labels", "optimizer": "es", "layers": (1, 2),
}  # fmt: skip


def config(**more: Any) -> TarotConfig:
    return get("tarot").configure(QUICK | more)


def edit_of(model: LanguageModel, space: AngleSpace, angles: Tensor, convention: str = ADD) -> RotationEdit:
    """Return the edit of given angles, as a fit builds it."""
    from workbench.methods.registry import header

    facts = {"layers": list(space.layers), "variant": space.variant, "width": space.width}
    facts |= fold_facts(model, space.layers, space.variant)
    biases = [value_bias(model, layer) for layer in space.layers]
    held = torch.stack([b for b in biases if b is not None]) if convention == HELD and biases[0] is not None else None
    return RotationEdit(header("tarot", model, labelled(), TarotConfig(), 0, facts), angles, held)


def logits(model: LanguageModel, *edits: RotationEdit, text: tuple[str, ...] = (words(11, 12, 13, 14), words(20, 21))) -> Tensor:
    batch = model.tokens(list(text))
    with torch.no_grad(), applied(model, *edits):
        return model.logits(batch)[:, -1]
