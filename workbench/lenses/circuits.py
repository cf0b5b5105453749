"""Which components speak to which: the edges of the residual graph that bring a clean answer back, and how much they bring back alone.

Law: an edge's share is its estimate (`residual_graph.carried`) over D_clean − D_corrupt, with D = logit(target) − logit(distractor) at
the last token, gradients taken at `N_GRADIENTS` points between both runs (integrated gradients, arXiv 2403.17806): with that of the
corrupted run alone 600 edges of a model of 135 million parameters brought 15 % back, so 70 %. The strongest edges are those that hang
together (`Graph.strongest`). `curve` is measured: every edge but these carries what the corrupted run wrote. Random circuits of the same
size hang together as a circuit does, paths from the logits to the embedding (`Graph.connected`): edges drawn one by one would hardly
meet, and bring nothing back whatever they are. What the strongest bring back counts as far as those do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from workbench.conversations import Prompt
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import gap, logit_difference, prompt_pair
from workbench.lenses.residual_graph import EdgeKey, Graph, Reader, alone, carried, split_inputs
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import running
from workbench.progress import Progress, silent
from workbench.shapes import Tensor

_PORTS = {"q": "Q", "k": "K", "v": "V"}
# Circuits of these parts and multiples of the asked size are measured beside it.
_SPREAD = (0.25, 0.5, 1, 2, 4)
N_RANDOM = 4
N_GRADIENTS = 5


@dataclass(frozen=True)
class Edge:
    """A writer and a reader by name (`embedding`, `head 3.1`, `MLP 2`, `logits`), what the reader does with it, and its estimated share.

    Keys and values that several heads share are read by `heads 3.0–3.2`.
    """

    writer: str
    reader: str
    port: str
    share: float


@dataclass(frozen=True)
class Circuit:
    """The strongest edges that hang together, from the logits back. `recovered` is the share of the effect that they bring back alone.

    `curve` is what circuits of `sizes` strongest edges bring back, `random` what each of `N_RANDOM` circuits of as many edges does that
    are drawn at random and hang together.
    """

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
    sizes: tuple[int, ...]
    curve: tuple[float, ...]
    random: tuple[tuple[float, ...], ...]
    seed: int

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that write or read one of the edges, as `layer.head`, in the order of the network."""
        names = {name.removeprefix("head ") for edge in self.edges for name in (edge.writer, edge.reader) if name.startswith("head ")}
        return tuple(sorted(names, key=lambda name: tuple(map(int, name.split(".")))))

    @property
    def mlps(self) -> tuple[str, ...]:
        """The MLPs that write or read one of the edges, as `MLP 3`, in the order of the network."""
        names = {name for edge in self.edges for name in (edge.writer, edge.reader) if name.startswith("MLP ")}
        return tuple(sorted(names, key=lambda name: int(name.removeprefix("MLP "))))

    def strongest_heads(self, k: int = 8) -> tuple[str, ...]:
        """The k heads whose edges carry most, by the sum of their shares' sizes, in the order of the network."""
        carried = {head: 0.0 for head in self.heads}
        for edge in self.edges:
            for name in {edge.writer, edge.reader}:
                if (head := name.removeprefix("head ")) in carried:
                    carried[head] += abs(edge.share)
        best = sorted(carried, key=lambda head: -carried[head])[:k]
        return tuple(head for head in self.heads if head in best)

    def rows(self) -> list[dict[str, Any]]:
        """One table row an edge."""
        return [{"from": edge.writer, "to": edge.reader, "port": edge.port, "estimated share": edge.share} for edge in self.edges]


def _sizes(graph: Graph, n_edges: int) -> tuple[int, ...]:
    return tuple(sorted({min(graph.n_edges, max(1, round(n_edges * part))) for part in _SPREAD}))


def forwards_of(model: LanguageModel, n_edges: int) -> int:
    """How many forwards a circuit of so many edges takes, to be told before it starts; `N_GRADIENTS` of them go back too."""
    return 3 + N_GRADIENTS + len(_sizes(Graph(model.info), n_edges)) * (1 + N_RANDOM)


def circuit(
    model: LanguageModel,
    clean: Prompt,
    corrupt: Prompt,
    target: str,
    distractor: str,
    *,
    n_edges: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> Circuit:
    """Find the strongest edges that hang together, then measure what they recover, beside `N_RANDOM` random circuits of each size.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`), or its edges do not add up.
        BadPrompt: the prompts differ in length, or make no difference. Cancelled: between two forwards.
    """
    owner, tell = bridged(model, "circuit"), progress or silent()
    pair, asked = prompt_pair(owner, clean, corrupt), logit_difference(owner, target, distractor)
    graph, done = Graph(owner.info), [0]
    sizes, n_forwards = _sizes(graph, n_edges), forwards_of(owner, n_edges)

    def metric(logits: Tensor) -> Tensor:
        done[0] += 1
        tell(min(0.98, done[0] / n_forwards), "Tracing edges")  # each forward ends here: the places where a person can stop it
        return asked(logits)[0]

    with edited_bridge(owner) as bridge, running(pair.rows(slice(0, 1)).forward()):
        with torch.no_grad():
            good, bad = (float(metric(bridge(pair.ids[i : i + 1]))) for i in (0, 1))
        whole = gap(good, bad)
        with split_inputs(bridge):
            found = carried(bridge, graph, pair.ids[:1], pair.ids[1:], metric, N_GRADIENTS)

            def brings_back(kept: Sequence[EdgeKey]) -> float:
                return (float(metric(alone(bridge, graph, pair.ids[:1], found.corrupt, kept))) - bad) / whole

            order = graph.strongest(found.scores, sizes[-1])
            curve = tuple(brings_back(order[:size]) for size in sizes)
            drawn = Random(seed)
            chance = tuple(tuple(brings_back(graph.connected(size, drawn)) for size in sizes) for _ in range(N_RANDOM))
    tell(1.0, "Done")
    texts = [token_texts(owner.tokenizer, row) for row in pair.ids]
    best = order[:n_edges]
    edges = tuple(Edge(*_named(graph, key, owner.info.n_key_value_heads), found.scores[key] / whole) for key in best)
    measured = (sizes, curve, chance, seed)
    recovered = curve[sizes.index(len(best))]
    return Circuit(
        owner.info.name, texts[0], texts[1], asked.texts[0], asked.texts[1], good, bad, edges, graph.n_edges, recovered, *measured
    )


def _named(graph: Graph, key: EdgeKey, n_key_value_heads: int) -> tuple[str, str, str]:
    layer, head = graph.writers[key[0]]
    writer = "embedding" if layer < 0 else f"MLP {layer}" if head is None else f"head {layer}.{head}"
    return writer, _reader(key[1], graph.n_heads // max(1, n_key_value_heads)), _PORTS.get(key[1].port, "")


def _reader(reader: Reader, shared_by: int) -> str:
    if reader.port in ("mlp", "logits"):
        return "logits" if reader.port == "logits" else f"MLP {reader.layer}"
    if reader.port == "q" or shared_by == 1:
        return f"head {reader.layer}.{reader.index}"
    first = reader.index * shared_by
    return f"heads {reader.layer}.{first}–{reader.layer}.{first + shared_by - 1}"
