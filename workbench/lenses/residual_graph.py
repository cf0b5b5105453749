"""The graph of the residual stream: who writes, who reads, how much each pair carries, and what is left when pairs are cut.

Law: edge (writer w, reader r) carries (a_clean[w] − a_corrupt[w]) · ∂D/∂(input of r), summed over positions; the gradient is the
corrupted run's, or the mean of several between both runs. Cutting it gives r the corrupted run's a[w] in place of the running one,
exactly: what enters r is a sum over its writers.
Readers are a head's queries, a key-value head's keys and values (one for several heads under grouped queries), an MLP, and the logits.
Differs: TransformerLens's `attribution_patch` and `faithfulness` have the same law, an edge a position, and refuse grouped queries; here
positions are summed at once, its `cache_activation_and_gradient` reads both runs, and keys and values are read where the bridge forks them.
Ref: edge attribution patching, arXiv 2310.10348; faithfulness as in arXiv 2403.17806.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, final

import torch
from transformer_lens.tools.analysis.attribution_patching import GradientCache, cache_activation_and_gradient

from workbench.errors import Obstructed
from workbench.models.base import ModelInfo
from workbench.shapes import Float, Tensor, TokenIds

Port = Literal["q", "k", "v", "mlp", "logits"]
_HOOKS = {"q": "attn.hook_q_input", "k": "attn.hook_k_input", "v": "attn.hook_v_input", "mlp": "hook_mlp_in", "logits": "hook_resid_post"}
# bfloat16 sums of thirty layers; a norm between a head and the stream moves them by half of their size.
_ADDS_UP = 0.05


@dataclass(frozen=True)
class Reader:
    """What reads at a port of a layer; `index` is a head, a key-value head, or 0."""

    layer: int
    port: Port
    index: int = 0


EdgeKey = tuple[int, Reader]
"""The writer's place among `Graph.writers`, and the reader."""
EdgeMetric = Callable[[Tensor], Tensor]


@final
class Graph:
    """The writers of a model in the order of the forward, as (layer, head): (−1, None) is the embedding, (l, None) the MLP of layer l."""

    def __init__(self, info: ModelInfo):
        self._info = info
        self.n_heads = info.n_heads
        self.writers: list[tuple[int, int | None]] = [(-1, None)]
        for layer in range(info.n_layers):
            self.writers += [(layer, head) for head in range(info.n_heads)] + [(layer, None)]

    def ports(self) -> list[tuple[int, Port, int]]:
        """Layer, port, and number of readers there, in the order of the forward."""
        info = self._info
        counts: dict[Port, int] = {"q": info.n_heads, "k": info.n_key_value_heads, "v": info.n_key_value_heads, "mlp": 1}
        found: list[tuple[int, Port, int]] = [(layer, port, n) for layer in range(info.n_layers) for port, n in counts.items()]
        found.append((info.n_layers - 1, "logits", 1))
        return found

    def before(self, layer: int, port: Port) -> int:
        """How many of the writers a reader sees: all before it."""
        if port == "logits":
            return len(self.writers)
        own = self.n_heads if port == "mlp" and not self._info.parallel_blocks else 0
        return 1 + layer * (self.n_heads + 1) + own

    def readers_of(self, writer: int) -> list[Reader]:
        """Where a writer reads: the ports of a head, keys and values perhaps shared, or the input of an MLP; the embedding nowhere."""
        layer, head = self.writers[writer]
        if layer < 0:
            return []
        if head is None:
            return [Reader(layer, "mlp")]
        shared = head * self._info.n_key_value_heads // max(1, self._info.n_heads)
        return [Reader(layer, "q", head), Reader(layer, "k", shared), Reader(layer, "v", shared)]

    def strongest(self, scores: Mapping[EdgeKey, float], size: int) -> list[EdgeKey]:
        """The `size` strongest edges that hang together: from the logits back, always the strongest that a writer so far, or they, read."""
        coming: dict[Reader, list[EdgeKey]] = {}
        for edge in scores:
            coming.setdefault(edge[1], []).append(edge)
        open_edges: list[tuple[float, int, EdgeKey]] = []
        place = {edge: i for i, edge in enumerate(scores)}

        def attach(reader: Reader) -> None:
            for edge in coming.pop(reader, ()):
                heapq.heappush(open_edges, (-abs(scores[edge]), place[edge], edge))

        attach(Reader(*self.ports()[-1][:2]))
        found: list[EdgeKey] = []
        while open_edges and len(found) < size:
            edge = heapq.heappop(open_edges)[2]
            found.append(edge)
            for reader in self.readers_of(edge[0]):
                attach(reader)
        return found

    def connected(self, size: int, draw: Random) -> list[EdgeKey]:
        """`size` edges at random that hang together: paths from the logits back to the embedding, each step to any writer before it.

        A path that would be longer than what is left ends early, still joined to the logits.
        """
        if size >= self.n_edges:
            return [
                (w, Reader(layer, port, r)) for layer, port, n in self.ports() for w in range(self.before(layer, port)) for r in range(n)
            ]
        end = self.ports()[-1]
        found: dict[EdgeKey, None] = {}
        while len(found) < size:
            reader: Reader | None = Reader(end[0], end[1])
            while reader is not None and len(found) < size:
                writer = draw.randrange(self.before(reader.layer, reader.port))
                found[writer, reader] = None
                readers = self.readers_of(writer)
                reader = draw.choice(readers) if readers else None
        return list(found)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return sum(n * self.before(layer, port) for layer, port, n in self.ports())

    def hook(self, layer: int, port: Port) -> str:
        """The hook point at which a port reads."""
        return f"blocks.{layer}.{_HOOKS[port]}"

    def writing(self) -> dict[str, slice]:
        """The hook points at which writers write, and which of the writers each holds."""
        found = {"hook_embed": slice(0, 1)}
        for layer in range(self._info.n_layers):
            start = 1 + layer * (self.n_heads + 1)
            found[f"blocks.{layer}.attn.hook_result"] = slice(start, start + self.n_heads)
            found[f"blocks.{layer}.hook_mlp_out"] = slice(start + self.n_heads, start + self.n_heads + 1)
        return found

    def written(self, activations: dict[str, Tensor]) -> Float[Tensor, "writer pos d_model"]:
        """What each writer wrote."""
        return torch.cat([_by_writer(activations[name]) for name in self.writing()])


@contextmanager
def split_inputs(bridge: Any) -> Generator[None]:
    """Within this context the bridge shows what each head writes, and what it and the MLP read.

    Raises: Obstructed: it cannot, on this architecture.
    """
    flags = {"use_attn_result": bridge.set_use_attn_result, "use_split_qkv_input": bridge.set_use_split_qkv_input}
    flags["use_hook_mlp_in"] = bridge.set_use_hook_mlp_in
    with ExitStack() as undo:
        for name, put in flags.items():
            undo.callback(put, getattr(bridge.cfg, name))
            put(True)
        yield


@dataclass(frozen=True)
class Carried:
    """What both runs wrote, and the share of D that every edge carries by the estimate, in the metric's units."""

    corrupt: Float[Tensor, "writer pos d_model"]
    scores: dict[EdgeKey, float]


def carried(bridge: Any, graph: Graph, clean: TokenIds, corrupt: TokenIds, metric: EdgeMetric, steps: int = 1) -> Carried:
    """Estimate every edge from two runs and the mean of `steps` gradients on the way from the corrupted embedding to the clean one.

    One step is the gradient of the corrupted run alone (edge attribution patching); more follow what saturates (with integrated gradients).

    Raises:
        Obstructed: what the heads and MLPs write is not what joins the stream, so a sum of edges is no effect.
    """
    last = graph.hook(len(graph.writers) // (graph.n_heads + 1) - 1, "logits")
    names = [*graph.writing(), *(graph.hook(layer, port) for layer, port, _ in graph.ports())]
    good = cache_activation_and_gradient(bridge, clean, metric, [*graph.writing(), last], compute_gradient=False)
    bad = followed(bridge, corrupt, metric, names)
    told = graph.written(bad.activations)
    moved = graph.written(good.activations) - told
    _add_up(moved, (good.activations[last] - bad.activations[last])[0])
    scores = _scores(graph, moved, bad)
    for k in range(1, steps):
        shift = k / steps * (good.activations["hook_embed"] - bad.activations["hook_embed"])
        more = _scores(graph, moved, followed(bridge, corrupt, metric, names, shift))
        scores = {key: value + more[key] for key, value in scores.items()}
    return Carried(told, {key: value / steps for key, value in scores.items()})


def followed(bridge: Any, ids: TokenIds, metric: EdgeMetric, names: list[str], shift: Tensor | None = None) -> GradientCache:
    """One run's activations and gradients at named hook points, its embedding perhaps moved."""

    def begin(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0].detach() if shift is None else args[0].detach() + shift.detach()
        return (x.requires_grad_(), *args[1:])  # the parameters need no gradient, so the graph has to begin here

    handle = bridge.hook_dict["hook_embed"].register_forward_pre_hook(begin)
    try:
        with torch.enable_grad():
            # The point that is most upstream gets no gradient where it is a view: the embedding stands before all others.
            return cache_activation_and_gradient(bridge, ids, metric, list(dict.fromkeys(["hook_embed", *names])))
    finally:
        handle.remove()


def _scores(graph: Graph, moved: Float[Tensor, "writer pos d_model"], bad: GradientCache) -> dict[EdgeKey, float]:
    found: dict[EdgeKey, float] = {}
    for layer, port, n in graph.ports():
        gradient = bad.gradients[graph.hook(layer, port)]
        if gradient is None:
            raise Obstructed(f"No gradient reaches {graph.hook(layer, port)}.", "Use Patching and Attribution on this model.")
        seen = graph.before(layer, port)
        values = torch.einsum("wpd,rpd->wr", moved[:seen], _by_writer(gradient)[:n])
        told = values.tolist()
        found |= {(w, Reader(layer, port, r)): told[w][r] for w in range(seen) for r in range(n)}
    return found


def _add_up(moved: Float[Tensor, "writer pos d_model"], whole: Float[Tensor, "pos d_model"]) -> None:
    apart = float((moved.sum(0) - whole).norm() / whole.norm().clamp_min(1e-9))
    if apart > _ADDS_UP:
        raise Obstructed(
            f"What heads and MLPs write differs by {apart:.0%} from what joins the stream, so edges do not add up.",
            "Use Patching and Attribution on this model.",
        )


def alone(bridge: Any, graph: Graph, clean: TokenIds, corrupt: Float[Tensor, "writer pos d_model"], kept: Collection[EdgeKey]) -> Any:
    """The logits of the clean run in which every edge outside `kept` carries what the corrupted run wrote: (1, pos, d_vocab)."""
    live, by_port = corrupt.clone(), dict[tuple[int, Port], Tensor]()
    for layer, port, n in graph.ports():
        by_port[layer, port] = torch.ones(n, graph.before(layer, port), dtype=live.dtype, device=live.device)
    for writer, reader in kept:
        by_port[reader.layer, reader.port][reader.index, writer] = 0

    def write(place: slice) -> Any:
        def note(x: Tensor, hook: Any) -> None:
            live[place] = _by_writer(x)

        return note

    def read(cut: Float[Tensor, "reader writer"]) -> Any:
        def change(x: Tensor, hook: Any) -> Tensor:
            seen = cut.shape[1]
            return x + torch.einsum("rw,wpd->prd", cut, corrupt[:seen] - live[:seen]).reshape(x.shape).to(x.dtype)

        return change

    hooks = [(name, write(place)) for name, place in graph.writing().items()]
    hooks += [(graph.hook(layer, port), read(cut)) for (layer, port), cut in by_port.items() if cut.any()]
    with torch.no_grad():
        return bridge.run_with_hooks(clean, fwd_hooks=hooks)


def _by_writer(x: Float[Tensor, "1 pos *part d_model"]) -> Float[Tensor, "part pos d_model"]:
    """One row's activations, a part (a head, or all) first."""
    return x if x.ndim == 3 else x[0].transpose(0, 1)
