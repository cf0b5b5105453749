"""Edges of the residual graph: TransformerLens's where it has them, derivatives everywhere, and cut exactly."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch

from tests.conftest import words
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.circuits import circuit
from workbench.lenses.residual_graph import Graph, alone, carried, split_inputs

CLEAN, CORRUPT = words(1, 2, 3, 2, 5), words(1, 2, 3, 1, 5)


def metric(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 1] - logits[0, -1, 2]


def test_edges_are_those_of_transformer_lens_summed_over_positions(tiny_gpt2: Any) -> None:
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch, faithfulness

    ports = {"q_input": "q", "k_input": "k", "v_input": "v", "mlp_in": "mlp", "logits": "logits"}
    pair, graph = tiny_gpt2.tokens([CLEAN, CORRUPT]), Graph(tiny_gpt2.info)
    with edited_bridge(tiny_gpt2) as bridge:
        with split_inputs(bridge):
            found = carried(bridge, graph, pair.ids[:1], pair.ids[1:], metric)
        handle = bridge.hook_dict["hook_embed"].register_forward_pre_hook(lambda _, args: (args[0].detach().requires_grad_(), *args[1:]))
        theirs = attribution_patch(bridge, pair.ids[:1], pair.ids[1:], metric, EdgeAttributionConfig("edge"))
        handle.remove()
        summed: dict[Any, float] = {}
        members: dict[Any, list[Any]] = {}
        for (writer, reader), score in theirs.edge_scores.items():
            at = (-1, None) if writer.kind == "embed" else (writer.layer, writer.head)
            key = (at, reader.layer, ports[reader.kind], reader.head or 0)
            summed[key] = summed.get(key, 0.0) + score
            members.setdefault(key, []).append((writer, reader))
        ours = {(graph.writers[w], r.layer, r.port, r.index): (w, r) for w, r in found.scores}
        assert set(ours) == set(summed) and len(ours) == graph.n_edges
        # float32 sums over five positions in another order.
        assert [found.scores[ours[key]] for key in summed] == pytest.approx(list(summed.values()), abs=1e-5)
        assert max(map(abs, summed.values())) > 1e-2
        kept = sorted(summed, key=lambda key: -abs(summed[key]))[:20]
        whole = faithfulness(bridge, pair.ids[:1], pair.ids[1:], metric, [edge for key in kept for edge in members[key]])
        with split_inputs(bridge):
            left = float(metric(alone(bridge, graph, pair.ids[:1], found.corrupt, [ours[key] for key in kept])))
    assert (left - whole.corrupt_metric) / (whole.full_metric - whole.corrupt_metric) == pytest.approx(whole.recovered, abs=1e-3)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_an_edge_is_the_derivative_of_what_passes_along_it_also_where_heads_share_keys_and_values(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    assert family != "llama" or model.info.n_key_value_heads < model.info.n_heads
    pair, graph = model.tokens([CLEAN, CORRUPT]), Graph(model.info)
    with edited_bridge(model) as bridge, split_inputs(bridge):
        found = carried(bridge, graph, pair.ids[:1], pair.ids[1:], metric)
        other = carried(bridge, graph, pair.ids[1:], pair.ids[:1], metric)
        moved, step = other.corrupt - found.corrupt, 1e-2
        best = sorted(found.scores, key=lambda key: -abs(found.scores[key]))
        for edge in [next(key for key in best if key[1].port == port) for port in ("q", "k", "v", "mlp", "logits")]:
            ends = []
            for sign in (1, -1):
                kept = [key for key in found.scores if key != edge]
                ends.append(float(metric(alone(bridge, graph, pair.ids[1:], found.corrupt + sign * step * moved, kept).double())))
            # float32 logits of order 1 over a step of 1e-2, and a second order that the two sides take away.
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(found.scores[edge], abs=2e-3, rel=0.05), edge


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_everything_recovers_all_and_nothing_recovers_nothing(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    whole = circuit(model, CLEAN, CORRUPT, "w1", "w2", n_edges=10**6)
    assert whole.recovered == pytest.approx(1.0, abs=1e-3) and whole.n_edges == Graph(model.info).n_edges
    pair, graph = model.tokens([CLEAN, CORRUPT]), Graph(model.info)
    with edited_bridge(model) as bridge, split_inputs(bridge):
        corrupt = carried(bridge, graph, pair.ids[:1], pair.ids[1:], metric).corrupt
        none = float(metric(alone(bridge, graph, pair.ids[:1], corrupt, [])))
    assert none == pytest.approx(whole.corrupt, abs=1e-4)
    if model.info.n_key_value_heads < model.info.n_heads:
        shared = {edge.reader for edge in whole.edges if edge.port in ("K", "V")}
        assert "heads 1.0–1.1" in shared and "head 1.0" not in shared


def test_twenty_edges_of_the_embedded_model_tell_who_is_given_and_random_ones_do_not() -> None:
    from workbench.models.catalog import load

    text = "When Kate and David were at the theatre, {} handed a mirror to"
    found = circuit(load("embedded"), text.format("David"), text.format("Kate"), " Kate", " David", n_edges=20)
    assert found.recovered > 0.8 and found.recovered == found.curve[found.sizes.index(20)]
    assert max(abs(value) for line in found.random for value in line) < 0.3
    assert found.n_edges > 50 * 20
    assert set(found.heads) == {one[5:] for edge in found.edges for one in (edge.writer, edge.reader) if one.startswith("head ")}


def hangs_together(graph: Graph, edges: Any) -> bool:
    """Whether every edge is read by the logits, or by somebody who writes one of the edges."""
    heard = {reader for writer, _ in edges for reader in graph.readers_of(writer)}
    return all(reader.port == "logits" or reader in heard for _, reader in edges)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_random_circuits_hang_together_and_edges_drawn_one_by_one_do_not(tiny_models: Any, family: str) -> None:
    graph = Graph(tiny_models[family].info)
    every = graph.connected(10**6, Random(0))
    assert len(set(every)) == graph.n_edges
    for seed in range(20):
        for size in (1, 7, 30):
            found = graph.connected(size, Random(seed))
            assert len(set(found)) == size and hangs_together(graph, found) and set(found) <= set(every)
    assert not all(hangs_together(graph, Random(seed).sample(every, 7)) for seed in range(20))


def test_the_strongest_edges_hang_together_and_with_several_gradients_the_estimate_is_the_mean_of_theirs(tiny_models: Any) -> None:
    model = tiny_models["llama"]
    pair, graph = model.tokens([CLEAN, CORRUPT]), Graph(model.info)
    with edited_bridge(model) as bridge, split_inputs(bridge):
        one, many = (carried(bridge, graph, pair.ids[:1], pair.ids[1:], metric, steps) for steps in (1, 40))
        ends = [float(metric(bridge(row)).double()) for row in (pair.ids[:1], pair.ids[1:])]
    for size in (1, 9, 40):
        found = graph.strongest(one.scores, size)
        assert len(set(found)) == size and hangs_together(graph, found)
    assert not hangs_together(graph, sorted(one.scores, key=lambda key: -abs(one.scores[key]))[:9])
    assert set(graph.strongest(one.scores, 10**6)) == set(one.scores)
    # Integrated gradients add up: what the embedding's readers carry along the whole way is the whole difference, up to the step.
    last = [sum(value for (_, reader), value in found.scores.items() if reader.port == "logits") for found in (one, many)]
    assert abs(last[1] - (ends[0] - ends[1])) < abs(last[0] - (ends[0] - ends[1]))
    assert one.scores != many.scores
