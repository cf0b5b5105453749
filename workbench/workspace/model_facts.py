"""What a person wants to know of a loaded model first: what works on it, and what it would say next."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.methods import get, names
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts

# Lenses that read activations through the engine, and so need no bridge.
ANYWHERE = ("concept_meter", "demonstration_geometry")


def capabilities(model: LanguageModel, lenses: Sequence[str]) -> list[dict[str, str]]:
    """Return one table row a method and lens: whether it works on this model, and if not why and what to load."""
    has_senses, rows = model.info.has_senses, list[dict[str, str]]()
    for name in names():
        method, reason = get(name), ""
        if method.needs.senses and not has_senses:
            reason = "needs a Backpack with senses: load embedded-backpack"
        elif method.needs.heads and has_senses:
            reason = "needs attention heads of a GPT-style model: load embedded"
        rows.append({"what": method.title, "kind": "method", "works": "no" if reason else "yes", "why": reason})
    for name in lenses:
        needs_senses, reason = name in ("senses", "sense_reading"), ""
        if needs_senses and not has_senses:
            reason = "needs a Backpack with senses: load embedded-backpack"
        elif has_senses and name not in ANYWHERE and not needs_senses:
            reason = "runs on TransformerLens's bridge, which a Backpack lacks"
        rows.append({"what": name.replace("_", " "), "kind": "lens", "works": "no" if reason else "yes", "why": reason})
    return rows


def next_tokens(model: LanguageModel, prompt: str, k: int, stack: Sequence[Edit] = ()) -> list[tuple[str, float]]:
    """Return the k likeliest next tokens with their probabilities, under a stack of edits.

    Raises:
        BadPrompt: the prompt is empty or too long. Others: as `engine.lanes`.
    """
    batch = model.tokens(prompt)
    with torch.no_grad(), lanes(model, [stack]):
        probabilities = model.logits(batch)[0, -1].float().softmax(-1)
    top = probabilities.topk(min(k, len(probabilities)))
    return list(zip(token_texts(model.tokenizer, top.indices), top.values.tolist()))
