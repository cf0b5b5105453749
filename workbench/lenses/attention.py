"""Attention patterns: where each head looks, for the base model and edited ones side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadKnob, UnknownName
from workbench.lenses.bridged import bridged, shown_to
from workbench.models.base import LanguageModel, ModelInfo
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


NUMBERS_KEPT = 128_000_000
"""Half a gigabyte of patterns."""


def layers_at_once(info: ModelInfo, n_tokens: int, n_lanes: int = 1) -> int:
    """Of how many layers the patterns of a prompt are kept together; one at least."""
    return max(1, NUMBERS_KEPT // (n_lanes * max(1, info.n_heads) * n_tokens**2))


def attention(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> AttentionPatterns:
    """Return the attention patterns of one prompt under each stack of edits.

    Memory: lanes · layers · heads · tokens² numbers, of which `NUMBERS_KEPT` at most; on long prompts give `layers`.

    Raises:
        BadKnob: more of them are asked for (`layers_at_once`).
        Obstructed: the model has no TransformerLens bridge. UnknownName: no such layer. Others: as `engine.lanes`.
    """
    owner, tell = bridged(model, "attention"), progress or silent()
    attending = tuple(layer for layer in range(owner.info.n_layers) if f"blocks.{layer}.attn.hook_pattern" in owner.bridge_hooks)
    chosen = attending if layers is None else tuple(layers)
    for layer in chosen:
        if layer not in attending:
            raise UnknownName("layer", str(layer), map(str, attending))
    batch = owner.tokens(prompt)
    n, lanes = batch.ids.shape[1], len(stacks)
    most = layers_at_once(owner.info, n, lanes)
    if len(chosen) > most:
        what = f"The patterns of {len(chosen)} layers of {owner.info.n_heads} heads on {n:,} tokens"
        raise BadKnob(f"{what}{f' in {lanes} lanes' if lanes > 1 else ''} are too many to keep.", f"Read at most {most} layers at a time.")
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in chosen]
    found: list[np.ndarray] = []
    for index, stack in enumerate(stacks):
        tell(index / len(stacks), "Reading attention")
        read = shown_to(owner, batch, stack, dict.fromkeys(names, lambda x: x[0].float().cpu().numpy()))
        found.append(np.stack([read[name] for name in names]))
    tell(1.0, "Done")
    texts = token_texts(owner.tokenizer, batch.ids[0])
    return AttentionPatterns(owner.info.name, lane_labels(stacks), texts, chosen, np.stack(found))
