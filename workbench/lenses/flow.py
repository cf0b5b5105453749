"""The flow of information: which tokens, heads and MLPs the stream at one token is made of, from the last layer back to the embedding.

Law: behind the attention of a block, y = x + Σ_{head, token} A[head, i, j] v_j W_O + b; behind its MLP, z = y + MLP(y). The share of a
part p of a sum s is max(0, ‖s‖₁ − ‖s − p‖₁), divided by the sum of these over all parts: a part counts as far as the sum would be
elsewhere without it. From the asked token on, an edge is kept where its share is at least the threshold, and a node where a kept edge
leads to it; the weight of a node is the sum over its edges of their shares times the weight of the node that they lead to.
Ref: information flow routes, arXiv 2403.00824; the measure of nearness, ALTI, arXiv 2203.04212. Differs: the residual of a sequential block
goes through two sums, whose shares are multiplied, so that a level is a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadKnob, BadPrompt
from workbench.lenses.attention import NUMBERS_KEPT, layers_at_once
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

FINEST = 0.01
"""Edges of a smaller share are not kept in a record."""
_NAMES = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_pattern", "attn.v.hook_out")


@dataclass(frozen=True)
class FlowEdge:
    """Into the stream behind `layer` at `pos`: from `source` by `head`; head −1 is what stood there before the block, −2 its MLP."""

    layer: int
    pos: int
    source: int
    head: int
    share: float

    @property
    def name(self) -> str:
        """What carries it."""
        return {-1: "stays", -2: f"MLP {self.layer}"}.get(self.head, f"head {self.layer}.{self.head}")


@dataclass(frozen=True)
class Flow:
    """Every edge of a share of `FINEST` or more among nodes that may be reached, a tuple a lane; `pos` is the token that is explained."""

    model: str
    lanes: tuple[LaneLabel, ...]
    tokens: tuple[str, ...]
    n_layers: int
    pos: int
    threshold: float
    edges: tuple[tuple[FlowEdge, ...], ...]

    def kept(self, threshold: float | None = None, lane: int = 0) -> tuple[tuple[FlowEdge, ...], Float[np.ndarray, "level pos"]]:
        """The edges that lead to the token at a threshold, from the last layer down, and the weight of every node.

        Level 0 is the embedding, level l + 1 the stream behind layer l.
        """
        least = self.threshold if threshold is None else threshold
        weights, found = np.zeros((self.n_layers + 1, len(self.tokens))), list[FlowEdge]()
        weights[-1, self.pos] = 1.0
        for edge in self.edges[lane]:  # from the last layer down, so that what an edge leads to has its weight already
            weight = weights[edge.layer + 1, edge.pos]
            if edge.share < least or weight == 0:
                continue
            found.append(edge)
            if edge.head != -2:
                weights[edge.layer, edge.source] += weight * edge.share
        return tuple(found), weights

    def heads(self, threshold: float | None = None, lane: int = 0, k: int = 8) -> tuple[tuple[str, float], ...]:
        """The k heads that carry most, by the weight of their edges."""
        edges, weights = self.kept(threshold, lane)
        carried: dict[str, float] = {}
        for edge in edges:
            if edge.head >= 0:
                name = f"{edge.layer}.{edge.head}"
                carried[name] = carried.get(name, 0.0) + edge.share * float(weights[edge.layer + 1, edge.pos])
        return tuple(sorted(carried.items(), key=lambda one: -one[1])[:k])

    def rows(self, threshold: float | None = None, lane: int | None = None) -> list[dict[str, Any]]:
        """One table row a kept edge, lane by lane."""
        found: list[dict[str, Any]] = []
        for i in range(len(self.lanes)) if lane is None else [lane]:
            edges, weights = self.kept(threshold, i)
            found += [
                {"lane": self.lanes[i].label, "layer": edge.layer, "to": f"{edge.pos} {self.tokens[edge.pos]}",
                 "from": f"{edge.source} {self.tokens[edge.source]}", "by": edge.name, "share": edge.share,
                 "weight": edge.share * float(weights[edge.layer + 1, edge.pos])}
                for edge in edges
            ]  # fmt: skip
        return found


def flow(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    pos: int = -1,
    threshold: float = 0.04,
    progress: Progress | None = None,
) -> Flow:
    """Trace the stream at one token back to the tokens, heads and MLPs that it is made of, under each stack of edits.

    Args:
        pos: the token, −1 the last. threshold: of an edge's share, in [`FINEST`, 1).

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadKnob: the threshold is out of bounds. BadPrompt: there
            is no such token, or there are too many (`attention.layers_at_once`). Others: `engine.lanes`.
    """
    if not FINEST <= threshold < 1:
        raise BadKnob(f"threshold = {threshold}.", f"Give a share from {FINEST} to 1.")
    owner, tell = bridged(model, "flow"), progress or silent()
    batch = owner.tokens(prompt)
    n = batch.ids.shape[1]
    if not -n <= pos < n:
        raise BadPrompt(f"The prompt has {n} tokens, and token {pos} is asked for.", f"Give one from 0 to {n - 1}.")
    if layers_at_once(owner.info, n) < owner.info.n_layers:
        most = isqrt(NUMBERS_KEPT // (owner.info.n_layers * owner.info.n_heads))
        raise BadPrompt(f"The patterns of all layers are kept, and on {n:,} tokens they are too many.", f"Give at most {most} tokens.")
    found: list[tuple[FlowEdge, ...]] = []
    for i, stack in enumerate(stacks):
        found.append(_traced(owner, batch, stack, pos % n, tell.part(i / len(stacks), (i + 1) / len(stacks))))
    tell(1.0, "Done")
    tokens = token_texts(owner.tokenizer, batch.ids[0])
    return Flow(owner.info.name, lane_labels(stacks), tokens, owner.info.n_layers, pos % n, threshold, tuple(found))


def _traced(model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], pos: int, tell: Progress) -> tuple[FlowEdge, ...]:
    layers = range(model.info.n_layers)
    names = [f"blocks.{layer}.{name}" for layer in layers for name in _NAMES]
    tell(0.0, "Running the prompt")
    edges: list[FlowEdge] = []
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        cache, writes = bridge.run_with_cache(batch.ids, names_filter=names)[1], bridge.W_O
        reached = {pos}
        for done, layer in enumerate(reversed(layers)):
            tell(0.1 + 0.9 * done / len(layers), f"Tracing layer {layer}")
            own = {name: cache[f"blocks.{layer}.{name}"][0].float() for name in _NAMES}
            into = [edge for query in sorted(reached) for edge in _into(model, own, writes[layer].float(), layer, query)]
            reached = {edge.source for edge in into if edge.head != -2}
            edges += into
    return tuple(edges)


def _into(model: BridgeModel, own: dict[str, Tensor], writes: Tensor, layer: int, query: int) -> list[FlowEdge]:
    """The edges into one node, those of `FINEST` or more."""
    before, after, attended, mlp = (own[name][query] for name in _NAMES[:4])
    values = own["attn.v.hook_out"].reshape(len(own["hook_resid_pre"]), -1, model.info.d_head)[: query + 1]
    values = values.repeat_interleave(model.info.n_heads // values.shape[1], 1)
    parts = torch.einsum("hj,jhd,hdm->hjm", own["attn.hook_pattern"][:, query, : query + 1], values, writes)
    middle = before + attended
    through, said = _shares(_nearness(torch.stack([middle, mlp]), after)).tolist()
    shares = _shares(_nearness(torch.cat([before[None], parts.flatten(0, 1)]), middle)) * through
    found = [FlowEdge(layer, query, query, -1, float(shares[0])), FlowEdge(layer, query, query, -2, said)]
    count = query + 1
    found += [FlowEdge(layer, query, i % count, i // count, share) for i, share in enumerate(shares[1:].tolist())]
    return [edge for edge in found if edge.share >= FINEST]


def _nearness(parts: Float[Tensor, "part d_model"], whole: Float[Tensor, " d_model"]) -> Float[Tensor, " part"]:
    return (whole.abs().sum() - (whole - parts).abs().sum(-1)).clamp_min(0)


def _shares(near: Float[Tensor, " part"]) -> Float[Tensor, " part"]:
    return near / near.sum().clamp_min(1e-12)
