"""Every head and MLP on one prompt, for a target against a distractor: what it writes, what it says itself, what is lost without it.

Law, with D = logit(target) − logit(distractor) at the last token and a what a node writes to the stream:
norm = ‖a‖ at the last token; direct = what a says about D through the final norm (`attribution`, exact); estimate = Σ_positions a · ∂D/∂a,
to first order what is lost without the node; lost = D − D(a ← 0 at every position), measured. Direct and estimate differ where a node
works through others; estimate and lost where the network is not a straight line, which is told, since then the estimate is no evidence.
Upstream: of what a node reads at one of its ports, the part that each earlier node wrote, Σ_positions a_writer · ∂D/∂(input of the port).
Ref: arXiv 2211.00593 (direct effects, knockouts), 2310.10348 (attribution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import UnknownName
from workbench.lenses.ablation import silenced
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import LogitDifference, logit_difference
from workbench.lenses.residual_graph import Graph, followed, split_inputs
from workbench.lenses.resumed import Resumable, copies_at_once
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.shapes import Activations, Float, Int, Tensor
from workbench.sites import Site

PORTS = {"q": "queries", "k": "keys", "v": "values", "mlp": "input", "logits": "logits"}
_APART, _COUNTS = 0.5, 0.05
"""An estimate is off where it is less than half or more than twice what was measured, or of another sign; where both are less than
a twentieth of D nothing is said."""


@dataclass(frozen=True)
class NodeTable:
    """A row a node, heads of a layer before its MLP; `lost` is NaN where it was not measured. Positive numbers speak for the target."""

    model: str
    lanes: tuple[LaneLabel, ...]
    target: str
    distractor: str | None
    nodes: tuple[str, ...]
    norm: Float[np.ndarray, "lane node"]
    direct: Float[np.ndarray, "lane node"]
    estimate: Float[np.ndarray, "lane node"]
    lost: Float[np.ndarray, "lane node"]
    difference: Float[np.ndarray, " lane"]

    def flag(self, at: int, lane: int = 0) -> str:
        """What is wrong with a node's estimate where it was measured; empty if nothing."""
        guess, real = float(self.estimate[lane, at]), float(self.lost[lane, at])
        if np.isnan(real) or max(abs(guess), abs(real)) < _COUNTS * max(abs(float(self.difference[lane])), 1e-9):
            return ""
        if guess * real < 0:
            return "signs differ"
        low, high = sorted((abs(guess), abs(real)))
        return "" if low >= _APART * high else "estimate too large" if abs(guess) > abs(real) else "estimate too small"

    def order(self, lane: int = 0) -> list[int]:
        """The nodes by the size of what is lost without them, measured where it was, else estimated."""
        size = np.abs(np.where(np.isnan(self.lost[lane]), self.estimate[lane], self.lost[lane]))
        return [int(i) for i in np.argsort(-size, kind="stable")]

    def rows(self, lane: int | None = None) -> list[dict[str, Any]]:
        """One table row a node of one lane or of each, those that matter most first."""
        return [
            {"lane": self.lanes[j].label, "node": self.nodes[i], "norm": float(self.norm[j, i]), "direct": float(self.direct[j, i]),
             "estimate": float(self.estimate[j, i]), "lost": None if np.isnan(self.lost[j, i]) else float(self.lost[j, i]),
             "flag": self.flag(i, j)}
            for j in (range(len(self.lanes)) if lane is None else [lane])
            for i in self.order(j)
        ]  # fmt: skip


def node_names(model: LanguageModel) -> tuple[str, ...]:
    """Every node in the order of the forward: `3.7` head 7 of layer 3, `MLP 3` its MLP."""
    info = model.info
    return tuple(name for i in range(info.n_layers) for name in (*(f"{i}.{j}" for j in range(info.n_heads)), f"MLP {i}"))


def place_of(node: str) -> tuple[int, int | None]:
    """Layer and head of a node's name; no head for an MLP."""
    layer, _, head = node.removeprefix("MLP ").partition(".")
    return int(layer), int(head) if head else None


def node_table(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str | None = None,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    measure: int = 0,
    progress: Progress | None = None,
) -> NodeTable:
    """Describe every head and MLP under each stack of edits; measure what is lost without the `measure` with the largest estimates.

    Cost: two forwards and a backward a lane, and for each measured node a run from its layer on.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadPrompt: a word is no single token. Others:
        `engine.lanes`.
    """
    owner, tell = bridged(model, "node_table"), progress or silent()
    batch, asked, n = owner.tokens(prompt), logit_difference(owner, target, distractor), len(stacks)
    told = direct_attribution(owner, prompt, target, distractor, stacks, unit="node", progress=tell.part(0.0, 0.2))
    direct = _by_layer(owner, torch.from_numpy(told.values[:, :-2])).numpy()
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i, stack in enumerate(stacks):
        tell(0.2 + 0.1 * i / n, "Following the gradient")
        norm, estimate = _followed(owner, batch, stack, asked)
        chosen = sorted(np.argsort(-np.abs(estimate), kind="stable")[: max(0, measure)].tolist())
        lost = _lost(owner, batch, stack, asked, chosen, tell.part(0.3 + 0.7 * i / n, 0.3 + 0.7 * (i + 1) / n))
        found.append((norm, estimate, lost))
    tell(1.0, "Done")
    norm, estimate, lost = (np.stack([one[k] for one in found]) for k in range(3))
    words = asked.target, asked.distractor
    return NodeTable(owner.info.name, lane_labels(stacks), *words, node_names(owner), norm, direct, estimate, lost, told.difference)


def _by_layer(model: BridgeModel, values: Float[Tensor, "lane node"]) -> Float[Tensor, "lane node"]:
    """Heads of all layers and then their MLPs, put into the order of the forward."""
    n_layers, n_heads = model.info.n_layers, model.info.n_heads
    heads, mlps = values[:, : n_layers * n_heads], values[:, n_layers * n_heads :]
    return torch.cat([heads.reshape(-1, n_layers, n_heads), mlps[..., None]], -1).flatten(1)


def _followed(model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], asked: LogitDifference) -> tuple[np.ndarray, np.ndarray]:
    """Norms of what nodes write at the last token, and the first order of what is lost without them."""
    info = model.info
    heads, mlps = ([f"blocks.{layer}.{name}" for layer in range(info.n_layers)] for name in ("attn.hook_z", "hook_mlp_out"))
    with edited_bridge(model, stack) as bridge, running(batch.forward()):
        seen = followed(bridge, batch.ids, lambda logits: asked(logits)[0], [*heads, *mlps])
        writes = bridge.W_O
    norms: list[Tensor] = []
    shares: list[Tensor] = []
    for layer, (head, mlp) in enumerate(zip(heads, mlps)):
        z, slope = (x.reshape(-1, info.n_heads, info.d_head).double() for x in (seen.activations[head], _there(seen.gradients[head])))
        out, rise = (x.reshape(-1, info.d_model).double() for x in (seen.activations[mlp], _there(seen.gradients[mlp])))
        norms += [torch.einsum("hd,hdm->hm", z[-1], writes[layer].double()).norm(dim=-1), out[-1:].norm(dim=-1)]
        shares += [(z * slope).sum((0, 2)), (out * rise).sum()[None]]
    return torch.cat(norms).detach().cpu().numpy(), torch.cat(shares).detach().cpu().numpy()


def _there(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise RuntimeError("no gradient reaches a node, which the registry rules out")
    return gradient


def _lost(
    model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], asked: LogitDifference, chosen: Sequence[int], tell: Progress
) -> Float[np.ndarray, " node"]:
    """D less D without each chosen node, a copy of the row a node, from its layer on."""
    names, found = node_names(model), np.full(len(node_names(model)), np.nan)
    if not chosen:
        return found
    by_layer: dict[int, list[int]] = {}
    for node in chosen:
        by_layer.setdefault(place_of(names[node])[0], []).append(node)
    size = copies_at_once(max(map(len, by_layer.values())), batch.ids.shape[1])
    with applied(model, *stack):
        run = Resumable(model, batch, size)
        whole = float(asked(run.logits[None, None])[0])
        for done, (layer, nodes) in enumerate(by_layer.items()):
            tell(done / len(by_layer), f"Silencing layer {layer}")
            for start in range(0, len(nodes), size):
                part = nodes[start : start + size]
                heads = [place_of(names[node])[1] for node in part]
                logits = run.changed(
                    layer, [(Site("head_z", layer), silenced(heads, model.info.d_head)), (Site("mlp_out", layer), _mute(heads))]
                )
                found[part] = whole - asked(logits[: len(part), None]).cpu().numpy()
    return found


def _mute(heads: Sequence[int | None]) -> Any:
    """Copies whose node is the MLP lose it."""

    def act(x: Activations) -> Activations:
        y = x.clone()
        for row, head in enumerate(heads):
            if head is None:
                y[row] = 0
        return y

    return act


@dataclass(frozen=True)
class Upstream:
    """What a node reads, by who wrote it and at which port; the shares of a port with what no node wrote (biases) add up to its whole."""

    model: str
    node: str
    target: str
    distractor: str | None
    writers: tuple[str, ...]
    ports: tuple[str, ...]
    shares: Float[np.ndarray, "port writer"]
    shared_by: int

    def rows(self) -> list[dict[str, Any]]:
        """One table row a writer and port, the largest first."""
        order = np.argsort(-np.abs(self.shares), axis=None, kind="stable")
        at: Int[np.ndarray, "edge 2"] = np.stack(np.unravel_index(order, self.shares.shape), -1)
        return [{"from": self.writers[w], "by": PORTS[self.ports[p]], "estimate": float(self.shares[p, w])} for p, w in at.tolist()]


def upstream(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str | None = None,
    *,
    node: str = "logits",
    progress: Progress | None = None,
) -> Upstream:
    """Trace one node of the untouched model back to the nodes that it reads: one forward and one backward.

    Args:
        node: `3.7` a head, `MLP 3`, or logits. Keys and values that several heads share (`shared_by`) are those of all of them.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). UnknownName: there is no such node. BadPrompt: a word is
        no single token.
    """
    owner, tell = bridged(model, "upstream"), progress or silent()
    batch, asked, graph = owner.tokens(prompt), logit_difference(owner, target, distractor), Graph(owner.info)
    names = ("embedding", *node_names(owner))
    if node != "logits" and node not in names[1:]:
        raise UnknownName("node", node, ("logits", *names[1:]))
    last = (owner.info.n_layers - 1, "logits", 0)
    at = [last] if node == "logits" else [(r.layer, r.port, r.index) for r in graph.readers_of(names.index(node))]
    hooks = {port: graph.hook(layer, port) for layer, port, _ in at}  # pyright: ignore[reportArgumentType]
    tell(0.2, "Following the gradient")
    with edited_bridge(owner) as bridge, running(batch.forward()), split_inputs(bridge):
        seen = followed(bridge, batch.ids, lambda logits: asked(logits)[0], [*graph.writing(), *hooks.values()])
    written = graph.written(seen.activations).detach()
    count = graph.before(at[0][0], at[0][1])  # pyright: ignore[reportArgumentType]
    shares: list[Tensor] = []
    for _, port, index in at:
        slope = _there(seen.gradients[hooks[port]])
        own = slope[0] if slope.ndim == 3 else slope[0, :, index]
        shares.append(torch.einsum("wpd,pd->w", written[:count].double(), own.double()))
    tell(1.0, "Done")
    shared = owner.info.n_heads // max(1, owner.info.n_key_value_heads)
    found = torch.stack(shares).detach().cpu().numpy()
    words = asked.target, asked.distractor
    return Upstream(owner.info.name, node, *words, names[:count], tuple(port for _, port, _ in at), found, shared)
