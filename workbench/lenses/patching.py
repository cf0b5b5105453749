"""Causal tracing between two prompts: put one activation of the clean run into the corrupted run, and see what comes back.

`activation_patching` runs TransformerLens's sweeps, one forward a cell. `attribution_patching` estimates all cells at once
from one gradient: (a_clean − a_corrupt) · ∂metric/∂a. The metric is logit(target) − logit(distractor) at the last token.
Effects are shares of what corruption took away: 0 is the corrupted run, 1 the clean one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformer_lens import patching
from transformer_lens.patching import get_act_patch_attn_head_out_all_pos, get_act_patch_block_every
from transformer_lens.tools.analysis import attribution_patch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import LogitDifference, gap, logit_difference, prompt_pair
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

# TransformerLens draws a bar on stderr and gives no switch for it; here the metric tells the progress.
_with_bars: Any = patching
_with_bars.tqdm = partial(_with_bars.tqdm, disable=True)

STREAM_KINDS = ("resid_pre", "attn_out", "mlp_out")


@dataclass(frozen=True)
class PatchingEffects:
    """Effects of patching each place, measured (`is_estimate` False) or estimated from a gradient.

    `streams` are over kinds `resid_pre attn_out mlp_out` at one position; an estimate has NaN for `resid_pre` and
    `attn_out`. `heads` patch a head's output at all positions together. `clean` and `corrupt` are logit differences.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    clean_tokens: tuple[str, ...]
    corrupt_tokens: tuple[str, ...]
    target: str
    distractor: str
    clean: Float[np.ndarray, " lane"]
    corrupt: Float[np.ndarray, " lane"]
    streams: Float[np.ndarray, "lane kind layer pos"]
    heads: Float[np.ndarray, "lane layer head"]
    is_estimate: bool


def activation_patching(
    model: LanguageModel,
    clean: Prompt,
    corrupt: Prompt,
    target: str,
    distractor: str,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    progress: Progress | None = None,
) -> PatchingEffects:
    """Measure the effect of every stream and head: layers · (3 · tokens + heads) forwards a lane.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: the prompts differ in length, or make no
        difference to the metric. Cancelled: between two forwards. Others: as `engine.lanes`.
    """
    owner, tell = bridged(model, "activation_patching"), progress or silent()
    pair, asked = prompt_pair(owner, clean, corrupt), logit_difference(owner, target, distractor)
    n_calls = len(stacks) * owner.info.n_layers * (3 * pair.ids.shape[1] + owner.info.n_heads)
    done = [0]

    def metric(logits: Tensor) -> Tensor:
        done[0] += 1
        tell(min(1.0, done[0] / n_calls), "Patching")
        return asked(logits)[0]

    def measured(bridge: Any) -> _Found:
        names = [f"blocks.{layer}.{part}" for layer in range(owner.info.n_layers) for part in _READ]
        with torch.no_grad():
            logits, cache = bridge.run_with_cache(pair.ids[:1], names_filter=names)
            bad = bridge(pair.ids[1:])
            streams = get_act_patch_block_every(bridge, pair.ids[1:], cache, metric)
            heads = get_act_patch_attn_head_out_all_pos(bridge, pair.ids[1:], cache, metric)
        return _Found(float(asked(logits)[0]), float(asked(bad)[0]), _array(streams), _array(heads))

    return _effects(owner, pair, asked, stacks, measured, is_estimate=False)


def attribution_patching(
    model: LanguageModel,
    clean: Prompt,
    corrupt: Prompt,
    target: str,
    distractor: str,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    progress: Progress | None = None,
) -> PatchingEffects:
    """Estimate the effects of MLP outputs and heads to first order: three forwards and one backward a lane.

    Raises: as `activation_patching`.
    """
    owner, tell = bridged(model, "attribution_patching"), progress or silent()
    pair, asked = prompt_pair(owner, clean, corrupt), logit_difference(owner, target, distractor)
    info, n_pos = owner.info, pair.ids.shape[1]

    def estimated(bridge: Any) -> _Found:
        tell(0.1, "Following the gradient")
        with torch.no_grad():
            good, bad = (asked(bridge(pair.ids[i : i + 1]))[0] for i in (0, 1))
        # The parameters need no gradient, so the graph has to begin at the embedding.
        start = bridge.hook_dict["hook_embed"]
        handle = start.register_forward_pre_hook(lambda _, args: (args[0].detach().requires_grad_(), *args[1:]))
        try:
            with torch.enable_grad():
                found = attribution_patch(bridge, pair.ids[:1], pair.ids[1:], lambda logits: asked(logits)[0])
        finally:
            handle.remove()
        streams, heads = np.full((len(STREAM_KINDS), info.n_layers, n_pos), np.nan), np.zeros((info.n_layers, info.n_heads))
        streams[2] = 0
        for node, score in found.node_scores.items():
            if node.kind == "mlp_out":
                streams[2, node.layer, node.position] = score
            elif node.kind == "attn_head_out":
                heads[node.layer, node.head] += score
        return _Found(float(good), float(bad), streams + float(bad), heads + float(bad))

    return _effects(owner, pair, asked, stacks, estimated, is_estimate=True)


_READ = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "attn.hook_z")


@dataclass(frozen=True)
class _Found:
    """Logit differences of the runs and under each patch."""

    clean: float
    corrupt: float
    streams: np.ndarray
    heads: np.ndarray


def _effects(
    model: BridgeModel,
    pair: TokenBatch,
    asked: LogitDifference,
    stacks: Sequence[Sequence[Edit]],
    look: Callable[[Any], _Found],
    *,
    is_estimate: bool,
) -> PatchingEffects:
    found: list[_Found] = []
    for stack in stacks:
        with edited_bridge(model, stack) as bridge, running(pair.rows(slice(0, 1)).forward()):
            found.append(look(bridge))
    gaps = [gap(one.clean, one.corrupt) for one in found]
    corrupt = np.array([one.corrupt for one in found])
    texts = [token_texts(model.tokenizer, row) for row in pair.ids]
    return PatchingEffects(
        model.info.name,
        lane_labels(stacks),
        texts[0],
        texts[1],
        asked.texts[0],
        asked.texts[1],
        np.array([one.clean for one in found]),
        corrupt,
        np.stack([(one.streams - one.corrupt) / gap for one, gap in zip(found, gaps)]),
        np.stack([(one.heads - one.corrupt) / gap for one, gap in zip(found, gaps)]),
        is_estimate,
    )


def _array(x: Any) -> np.ndarray:
    return x.detach().double().cpu().numpy()
