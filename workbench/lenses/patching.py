"""Causal tracing between two prompts: put one activation of the clean run into the corrupted run, and see what comes back.

`activation_patching` measures what TransformerLens's sweeps measure (`get_act_patch_block_every`, `get_act_patch_attn_head_out_all_pos`),
not with a forward a cell but with copies that go on from the patched layer side by side. `attribution_patching` estimates all cells at
once from one gradient, by TransformerLens's function: (a_clean − a_corrupt) · ∂metric/∂a. The metric is logit(target) −
logit(distractor) at the last token. Effects are shares of what corruption took away: 0 is the corrupted run, 1 the clean one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformer_lens.tools.analysis import attribution_patch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import LogitDifference, gap, logit_difference, prompt_pair
from workbench.lenses.resumed import Resumable, copies_at_once
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.hooks import ReadWrite
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

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


@dataclass(frozen=True)
class _Found:
    """Logit differences of the runs and under each patch."""

    clean: float
    corrupt: float
    streams: np.ndarray
    heads: np.ndarray


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
    """Measure the effect of every stream and head: a copy of the corrupted row a cell, from its layer on (`n_patched_runs` a lane).

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadPrompt: the prompts differ in length, or make no
        difference to the metric. Cancelled: between two forwards. Others: as `engine.lanes`.
    """
    owner, tell = bridged(model, "activation_patching"), progress or silent()
    pair, asked = prompt_pair(owner, clean, corrupt), logit_difference(owner, target, distractor)
    found: list[_Found] = []
    for i, stack in enumerate(stacks):
        with applied(owner, *stack):
            found.append(_measured(owner, pair, asked, tell.part(i / len(stacks), (i + 1) / len(stacks))))
    tell(1.0, "Done")
    return _effects(owner, pair, asked, stacks, found, is_estimate=False)


def first_differing(pair: TokenBatch) -> int:
    """The first position at which two rows differ; what stands before it is the same in both runs, so a patch there does nothing."""
    return int((pair.ids[0] != pair.ids[1]).float().argmax())


def n_patched_runs(model: LanguageModel, pair: TokenBatch) -> int:
    """How many runs patching every place takes, each from its own layer on."""
    n_places = pair.ids.shape[1] - first_differing(pair)
    return model.info.n_layers * (len(STREAM_KINDS) * n_places + model.info.n_heads)


def runs_of(model: LanguageModel, clean: Prompt, corrupt: Prompt) -> int:
    """How many runs measuring every place of two prompts takes in one lane, to be told before they start.

    Raises: BadPrompt: the prompts differ in length.
    """
    return n_patched_runs(model, prompt_pair(model, clean, corrupt))


def _measured(model: BridgeModel, pair: TokenBatch, asked: LogitDifference, tell: Progress) -> _Found:
    n_layers, n_heads, first, n = model.info.n_layers, model.info.n_heads, first_differing(pair), pair.ids.shape[1]
    sites = {layer: [Site(kind, layer) for kind in (*STREAM_KINDS, "head_z")] for layer in range(n_layers)}
    with torch.no_grad():
        clean = activations(model, pair.rows(slice(0, 1)), [site for line in sites.values() for site in line])
        good = float(asked(model.logits(pair.rows(slice(0, 1))))[0])
    cells = [(kind, at) for kind in range(len(STREAM_KINDS)) for at in range(first, n)] + [(-1, head) for head in range(n_heads)]
    size = copies_at_once(len(cells), n)
    run = Resumable(model, pair.rows(slice(1, 2)), size)
    bad = float(asked(run.logits[None, None])[0])
    gap(good, bad)
    streams, heads = np.full((len(STREAM_KINDS), n_layers, n), bad), np.full((n_layers, n_heads), bad)
    for layer in range(n_layers):
        for start in range(0, len(cells), size):
            tell((layer + start / len(cells)) / n_layers, f"Patching layer {layer}")
            part = cells[start : start + size]
            changes = [(site, _patch(part, kind, clean[site], model.info.d_head)) for kind, site in zip((0, 1, 2, -1), sites[layer])]
            told = asked(run.changed(layer, changes)[:, None]).tolist()
            for (kind, at), value in zip(part, told):
                (heads[layer] if kind < 0 else streams[kind, layer])[at] = value
    return _Found(good, bad, streams, heads)


def _patch(cells: Sequence[tuple[int, int]], kind: int, clean: Tensor, d_head: int) -> ReadWrite:
    """Give each copy of a kind's cells its own piece of the clean run: a position of a stream, or a head at every position."""

    def put(x: Activations) -> Activations:
        y = x.clone()
        for row, (own, at) in enumerate(cells):
            if own == kind:
                place = (slice(None), slice(at * d_head, (at + 1) * d_head)) if kind < 0 else (at,)
                y[row][place] = clean[0][place]
        return y

    return put


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

    found: list[_Found] = []
    for stack in stacks:
        with edited_bridge(owner, stack) as bridge, running(pair.rows(slice(0, 1)).forward()):
            found.append(estimated(bridge))
    return _effects(owner, pair, asked, stacks, found, is_estimate=True)


def _effects(
    model: BridgeModel,
    pair: TokenBatch,
    asked: LogitDifference,
    stacks: Sequence[Sequence[Edit]],
    found: Sequence[_Found],
    *,
    is_estimate: bool,
) -> PatchingEffects:
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
