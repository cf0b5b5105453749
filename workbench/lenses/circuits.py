"""Which components speak to which: the edges of the residual graph that bring a clean answer back, and how much they bring back alone.

Law: edge (writer w, reader r) is estimated as (a_clean[w] − a_corrupt[w]) · ∂D/∂(input of r), summed over positions and told as a share of
D_clean − D_corrupt, with D = logit(target) − logit(distractor). `recovered` is measured: every other edge gets the corrupted run's
contribution. Ref: edge attribution patching, arXiv 2310.10348; faithfulness as in arXiv 2403.17806.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch, faithfulness

from workbench.conversations import Prompt
from workbench.errors import Obstructed
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import gap, logit_difference, prompt_pair
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import running
from workbench.progress import Progress, silent
from workbench.shapes import Tensor

# Two runs, two for the gradient, two of reference, and one for all edges and for each of their classes.
_N_FORWARDS = 12
_READS = {"q_input": "Q", "k_input": "K", "v_input": "V"}


@dataclass(frozen=True)
class Edge:
    """A writer and a reader by name (`embedding`, `head 3.1`, `MLP 2`, `logits`), what the reader does with it, and its estimated share."""

    writer: str
    reader: str
    port: str
    share: float


@dataclass(frozen=True)
class Circuit:
    """The strongest edges, the largest first. `recovered` is the share of the effect that they bring back alone; 1 is all of it."""

    model: str
    clean_tokens: tuple[str, ...]
    corrupt_tokens: tuple[str, ...]
    target: str
    distractor: str
    clean: float
    corrupt: float
    edges: tuple[Edge, ...]
    n_edges: int
    recovered: float

    def rows(self) -> list[dict[str, Any]]:
        """One table row an edge."""
        return [{"from": edge.writer, "to": edge.reader, "port": edge.port, "estimated share": edge.share} for edge in self.edges]


def circuit(
    model: LanguageModel,
    clean: Prompt,
    corrupt: Prompt,
    target: str,
    distractor: str,
    *,
    n_edges: int = 30,
    progress: Progress | None = None,
) -> Circuit:
    """Find the strongest edges from one gradient, then measure what they recover.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`).
        BadPrompt: the prompts differ in length, or make no difference. Cancelled: between two forwards.
    """
    owner, tell = bridged(model, "circuit"), progress or silent()
    pair, asked = prompt_pair(owner, clean, corrupt), logit_difference(owner, target, distractor)
    done = [0]

    def metric(logits: Tensor) -> Tensor:
        done[0] += 1
        tell(min(0.95, done[0] / _N_FORWARDS), "Tracing edges")  # each forward ends here: the places where a person can stop it
        return asked(logits)[0]

    with edited_bridge(owner) as bridge, running(pair.rows(slice(0, 1)).forward()):
        good, bad = _metrics(bridge, pair.ids, metric)
        whole = gap(good, bad)
        sums, members = _edges(bridge, pair.ids, metric)
        best = sorted(sums, key=lambda key: -abs(sums[key]))[:n_edges]
        kept = [edge for key in best for edge in members[key]]
        alone = faithfulness(bridge, pair.ids[:1], pair.ids[1:], metric, kept).recovered
    tell(1.0, "Done")
    texts = [token_texts(owner.tokenizer, row) for row in pair.ids]
    edges = tuple(Edge(*key, sums[key] / whole) for key in best)
    return Circuit(owner.info.name, texts[0], texts[1], asked.texts[0], asked.texts[1], good, bad, edges, len(sums), float(alone))


def _metrics(bridge: Any, ids: Tensor, metric: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    with torch.no_grad():
        return float(metric(bridge(ids[:1]))), float(metric(bridge(ids[1:])))


_Key = tuple[str, str, str]


def _edges(bridge: Any, ids: Tensor, metric: Callable[[Tensor], Tensor]) -> tuple[dict[_Key, float], dict[_Key, list[Any]]]:
    # The parameters need no gradient, so the graph has to begin at the embedding.
    handle = bridge.hook_dict["hook_embed"].register_forward_pre_hook(lambda _, args: (args[0].detach().requires_grad_(), *args[1:]))
    try:
        with torch.enable_grad():
            found = attribution_patch(bridge, ids[:1], ids[1:], metric, EdgeAttributionConfig("edge"))
    except ValueError as error:
        raise Obstructed(f"The edges of this model cannot be read: {error}", "Use Patching and Attribution on this model.") from error
    finally:
        handle.remove()
    sums: dict[_Key, float] = {}
    members: dict[_Key, list[Any]] = {}
    for (writer, reader), score in found.edge_scores.items():
        key = (_name(writer), _name(reader), _READS.get(reader.kind, ""))
        sums[key] = sums.get(key, 0.0) + float(score)
        members.setdefault(key, []).append((writer, reader))
    return sums, members


def _name(node: Any) -> str:
    if node.kind in ("embed", "logits"):
        return "embedding" if node.kind == "embed" else "logits"
    return f"head {node.layer}.{node.head}" if node.head is not None else f"MLP {node.layer}"
