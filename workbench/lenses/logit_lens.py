"""The logit lens: what the model would predict if it stopped after each layer, for base and edited models.

Ref: docs/methods/shared.md §2 for the sites; the readout is TransformerLens's `logit_lens`, through the real final norm and
unembedding, so the last entry is the model's own prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformer_lens.tools.analysis import logit_lens as readout

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.token_texts import one_token, token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.shapes import Float, Int


@dataclass(frozen=True)
class LogitLens:
    """Next-token predictions read from the residual stream at each entry (`0_pre`, `0_mid`, …, `final_post`).

    `entropy` is in nats over the whole vocabulary; `target_ranks` count from 0. Targets are single tokens: the first
    of each text asked for.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    tokens: tuple[str, ...]
    entries: tuple[str, ...]
    top_ids: Int[np.ndarray, "lane entry pos k"]
    top_texts: np.ndarray
    top_probabilities: Float[np.ndarray, "lane entry pos k"]
    entropy: Float[np.ndarray, "lane entry pos"]
    targets: tuple[str, ...]
    target_log_probs: Float[np.ndarray, "lane entry pos target"]
    target_ranks: Int[np.ndarray, "lane entry pos target"]

    def rows(self, pos: int = -1) -> list[dict[str, Any]]:
        """The lens at one position as table rows, lane by lane and entry by entry."""
        found: list[dict[str, Any]] = []
        for i, lane in enumerate(self.lanes):
            for j, entry in enumerate(self.entries):
                row: dict[str, Any] = {"lane": lane.label, "entry": entry, "top": str(self.top_texts[i, j, pos, 0])}
                row |= {"probability": float(self.top_probabilities[i, j, pos, 0])}
                row |= {"entropy_nats": float(self.entropy[i, j, pos])}
                for t, target in enumerate(self.targets):
                    row[f"log p({target})"] = float(self.target_log_probs[i, j, pos, t])
                    row[f"rank({target})"] = int(self.target_ranks[i, j, pos, t])
                found.append(row)
        return found


def logit_lens(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    targets: Sequence[str] = (),
    top_k: int = 5,
    progress: Progress | None = None,
) -> LogitLens:
    """Return the logit lens of one prompt at all positions under each stack of edits.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: a target is not one token. Others: `engine.lanes`.
    """
    owner, tell = bridged(model, "logit_lens"), progress or silent()
    batch = owner.tokens(prompt)
    ids = [one_token(owner, target) for target in targets]
    parts: list[_Read] = []
    for index, stack in enumerate(stacks):
        tell(index / len(stacks), "Reading the residual stream")
        parts.append(_read(owner, batch, stack, ids, min(top_k, owner.info.d_vocab)))
    top_ids = np.stack([part.top_ids for part in parts])
    texts = {token: token_texts(owner.tokenizer, [token])[0] for token in np.unique(top_ids).tolist()}
    tell(1.0, "Done")
    return LogitLens(
        owner.info.name,
        lane_labels(stacks),
        token_texts(owner.tokenizer, batch.ids[0]),
        parts[0].entries,
        top_ids,
        np.vectorize(texts.__getitem__, otypes=[object])(top_ids),
        np.stack([part.top_probabilities for part in parts]),
        np.stack([part.entropy for part in parts]),
        token_texts(owner.tokenizer, ids),
        np.stack([part.log_probs for part in parts]),
        np.stack([part.ranks for part in parts]),
    )


@dataclass(frozen=True)
class _Read:
    entries: tuple[str, ...]
    top_ids: np.ndarray
    top_probabilities: np.ndarray
    entropy: np.ndarray
    log_probs: np.ndarray
    ranks: np.ndarray


def _read(model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], targets: list[int], top_k: int) -> _Read:
    layers = range(model.info.n_layers)
    # A parallel block has no middle, as attention and MLP read the same stream; TransformerLens names none in a state-space block.
    middle = ("hook_resid_mid", "attn.hook_out")
    mids = (
        model.info.adds_up
        and not model.info.parallel_blocks
        and all(f"blocks.{layer}.{hook}" in model.bridge_hooks for layer in layers for hook in middle)
    )
    names = [f"blocks.{layer}.hook_resid_{at}" for layer in layers for at in (("pre", "mid", "post") if mids else ("pre", "post"))]
    # The readout runs inside the context: an edit may act on the final norm or the unembedding.
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        cache = bridge.run_with_cache(batch.ids, names_filter=names)[1]
        arguments: dict[str, Any] = {"cache": cache, "positions": None, "incl_mid": mids}
        top: Any = readout(bridge, top_k=top_k, return_type="probs", **arguments)
        asked: Any = readout(bridge, targets=targets, return_type="log_probs", **arguments) if targets else None
    shape = (*top.readout.entropy[:, 0].shape, 0)
    return _Read(
        tuple(top.labels),
        _array(top.readout.top_ids[:, 0]),
        _array(top.values[:, 0]),
        _array(top.readout.entropy[:, 0]),
        np.zeros(shape) if asked is None else _array(asked.values[:, 0]),
        np.zeros(shape, dtype=np.int64) if asked is None else _array(asked.readout.target_ranks[:, 0]),
    )


def _array(x: torch.Tensor) -> np.ndarray:
    return (x.float() if x.is_floating_point() else x).cpu().numpy()
