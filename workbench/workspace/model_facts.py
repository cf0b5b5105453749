"""What a person wants to know of a loaded model first: what works on it, and what it would say next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.lenses import registry as lens_registry
from workbench.methods import ordered
from workbench.methods.registry import Method
from workbench.methods.shared.needs import Obstacle
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts


@dataclass(frozen=True)
class Offered:
    """A method with why it cannot run here, if it cannot."""

    method: Method
    obstacles: tuple[Obstacle, ...]


def offered(model: LanguageModel, rows: Demonstrations | None) -> tuple[Offered, ...]:
    """Every method, the simple ones first, with its obstacles on a model and these demonstrations, or with any."""
    return tuple(Offered(method, method.obstacles(model, rows)) for method in ordered())


def capabilities(model: LanguageModel) -> list[dict[str, str]]:
    """Return one table row a method and lens: whether it works on this model, and if not why and what to load."""
    found = [(method.title, "method", method.obstacles_of(model)) for method in ordered()]
    found += [(name.replace("_", " "), "lens", lens_registry.obstacles_of(name, model)) for name in lens_registry.lens_names()]
    return [
        {
            "what": what,
            "kind": kind,
            "works": "no" if obstacles else "yes",
            "why": " ".join(f"{item.reason} {item.hint}" for item in obstacles),
        }
        for what, kind, obstacles in found
    ]


def weight_bytes(model: LanguageModel) -> int:
    """Memory of a model's parameters and buffers, each counted once, in bytes."""
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.network.parameters(), *model.network.buffers())}
    return sum(held.values())


def next_tokens(model: LanguageModel, prompt: Prompt, k: int, stack: Sequence[Edit] = ()) -> list[tuple[str, float]]:
    """Return the k likeliest next tokens with their probabilities, under a stack of edits.

    Raises:
        BadPrompt: the prompt is empty or too long. Others: as `engine.lanes`.
    """
    batch = model.tokens(prompt)
    with torch.no_grad(), lanes(model, [stack]):
        probabilities = model.logits(batch)[0, -1].float().softmax(-1)
    top = probabilities.topk(min(k, len(probabilities)))
    return list(zip(token_texts(model.tokenizer, top.indices), top.values.tolist()))
