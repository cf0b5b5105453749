"""Attention patterns: where each head looks, for the base model and edited ones side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import UnknownName
from workbench.lenses.bridged import bridged, run
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Progress, silent
from workbench.shapes import Float


@dataclass(frozen=True)
class AttentionPatterns:
    """Share of attention that each query token pays to each key token, one pattern a lane, layer and head.

    Rows sum to 1; entries above the diagonal are 0. `layers` are the layers that the third axis counts.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    pattern: Float[np.ndarray, "lane layer head query key"]

    @property
    def n_heads(self) -> int:
        """Heads a layer."""
        return int(self.pattern.shape[2])

    def change(self, lane: int) -> Float[np.ndarray, "layer head query key"]:
        """Pattern of a lane minus that of the first."""
        return self.pattern[lane] - self.pattern[0]

    def distance(self, lane: int) -> Float[np.ndarray, "layer head"]:
        """How far each head's attention moved: total variation to the first lane, mean over query tokens, in [0, 1]."""
        return np.abs(self.change(lane)).sum(-1).mean(-1) / 2


def attention(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> AttentionPatterns:
    """Return the attention patterns of one prompt under each stack of edits.

    Memory: lanes · layers · heads · tokens² numbers; give `layers` on large models.

    Raises:
        Obstructed: the model has no TransformerLens bridge. UnknownName: no such layer. Others: as `engine.lanes`.
    """
    owner, tell = bridged(model, "attention"), progress or silent()
    attending = tuple(layer for layer in range(owner.info.n_layers) if f"blocks.{layer}.attn.hook_pattern" in owner.bridge_hooks)
    chosen = attending if layers is None else tuple(layers)
    for layer in chosen:
        if layer not in attending:
            raise UnknownName("layer", str(layer), map(str, attending))
    batch = owner.tokens(prompt)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in chosen]
    found: list[np.ndarray] = []
    for index, stack in enumerate(stacks):
        tell(index / len(stacks), "Reading attention")
        cache = run(owner, batch, stack, names)[1]
        found.append(np.stack([cache[name][0].float().cpu().numpy() for name in names]))
    tell(1.0, "Done")
    texts = token_texts(owner.tokenizer, batch.ids[0])
    return AttentionPatterns(owner.info.name, lane_labels(stacks), texts, chosen, np.stack(found))
