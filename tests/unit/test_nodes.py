"""The node table is TransformerLens's numbers by hand, its estimate a finite difference, and what goes upstream adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.made_edits import shift
from workbench.errors import Obstructed, UnknownName
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.nodes import node_names, node_table, place_of, upstream
from workbench.models.tokens import running

PROMPT, GOOD, BAD = words(3, 7, 12, 5), 5, 9


def difference(model: Any, scale: float, node: str, *stack: Any) -> float:
    """D by TransformerLens, one node's output scaled at every position."""
    layer, head = place_of(node)

    def shrink(x: torch.Tensor, hook: Any) -> torch.Tensor:
        y = x.clone()
        if head is None:
            return scale * y
        y[:, :, head] = scale * y[:, :, head]
        return y

    name = f"blocks.{layer}.hook_mlp_out" if head is None else f"blocks.{layer}.attn.hook_z"
    batch = model.tokens(PROMPT)
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        logits = bridge.run_with_hooks(batch.ids, fwd_hooks=[(name, shrink)])[0, -1].double()
    return float(logits[GOOD] - logits[BAD])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_measured_is_a_run_without_the_node_and_what_is_estimated_its_slope(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    edit = shift(model, layer=0)
    found = node_table(model, PROMPT, "w5", "w9", [(), (edit,)], measure=100)
    assert found.nodes == node_names(model) and not np.isnan(found.lost).any()
    for lane, stack in enumerate(((), (edit,))):
        for node in ("0.1", "1.3", "2.0", "MLP 0", "MLP 2"):
            at, whole = found.nodes.index(node), difference(model, 1.0, node, *stack)
            assert found.lost[lane, at] == pytest.approx(whole - difference(model, 0.0, node, *stack), abs=1e-4)
            slope = (difference(model, 1.01, node, *stack) - difference(model, 0.99, node, *stack)) / 0.02
            assert found.estimate[lane, at] == pytest.approx(slope, abs=2e-3)
        assert found.difference[lane] == pytest.approx(difference(model, 1.0, "0.0", *stack), abs=1e-4)
    assert np.abs(found.estimate - found.lost).max() > 0.01, "an estimate is no measurement"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_norms_and_direct_effects_are_those_of_the_cache(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    found, batch = node_table(model, PROMPT, "w5", "w9"), model.tokens(PROMPT)
    with torch.no_grad(), edited_bridge(model) as bridge, running(batch.forward()):
        cache = bridge.run_with_cache(batch.ids)[1]
        heads = cache.stack_head_results(layer=3, pos_slice=-1)[:, 0]
    for i, node in enumerate(found.nodes):
        layer, head = place_of(node)
        wrote = cache[f"blocks.{layer}.hook_mlp_out"][0, -1] if head is None else heads[layer * model.info.n_heads + head]
        assert found.norm[0, i] == pytest.approx(float(wrote.norm()), rel=1e-4)
    by_head, by_part = (direct_attribution(model, PROMPT, "w5", "w9", unit=unit) for unit in ("head", "component"))
    for i, node in enumerate(found.nodes):
        layer, head = place_of(node)
        told = by_part if head is None else by_head
        label = f"{layer}_mlp_out" if head is None else f"L{layer}H{head}"
        assert found.direct[0, i] == pytest.approx(told.values[0, told.labels.index(label)], abs=1e-5)
    assert np.isnan(found.lost).all() and not any(row["flag"] for row in found.rows()), "nothing measured, nothing flagged"


def test_only_the_largest_are_measured_and_an_estimate_that_is_off_is_told(tiny_gpt2: Any) -> None:
    found = node_table(tiny_gpt2, PROMPT, "w5", "w9", measure=4)
    measured = np.flatnonzero(~np.isnan(found.lost[0]))
    assert set(measured) == set(np.argsort(-np.abs(found.estimate[0]))[:4])
    assert [row["node"] for row in found.rows(0)] == [found.nodes[i] for i in found.order()]
    whole = node_table(tiny_gpt2, PROMPT, "w5", "w9", measure=100)
    for i in range(len(whole.nodes)):
        guess, real, flag = whole.estimate[0, i], whole.lost[0, i], whole.flag(i)
        if max(abs(guess), abs(real)) < 0.05 * abs(whole.difference[0]):
            assert not flag
        elif guess * real < 0:
            assert flag == "signs differ"
        else:
            assert (flag == "") == (0.5 <= abs(guess / real) <= 2)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_every_reader_gets_of_a_node_adds_up_to_its_estimate(tiny_models: Any, family: str) -> None:
    """The chain rule: a node's estimate is the sum over the ports that read it; a port that several heads share counts once."""
    model = tiny_models[family]
    table = node_table(model, PROMPT, "w5", "w9")
    shared = model.info.n_heads // model.info.n_key_value_heads
    total = dict.fromkeys(("embedding", *table.nodes), 0.0)
    for node in (*table.nodes, "logits"):
        found = upstream(model, PROMPT, "w5", "w9", node=node)
        assert found.shared_by == shared
        is_first = node == "logits" or place_of(node)[1] is None or int(place_of(node)[1] or 0) % shared == 0
        for port, line in zip(found.ports, found.shares):
            if port in ("k", "v") and not is_first:
                continue
            for writer, share in zip(found.writers, line):
                total[writer] += float(share)
    for i, node in enumerate(table.nodes):
        assert total[node] == pytest.approx(table.estimate[0, i], abs=1e-4)
    first = upstream(model, PROMPT, "w5", "w9", node="0.0")
    assert first.writers == ("embedding",), "nobody else stands before the first block"
    rows = upstream(model, PROMPT, "w5", "w9", node="MLP 2").rows()
    assert [abs(row["estimate"]) for row in rows] == sorted((abs(row["estimate"]) for row in rows), reverse=True)


def test_a_node_that_is_not_there_and_a_family_that_cannot_are_refused_by_name(tiny_models: Any) -> None:
    with pytest.raises(UnknownName, match="9.0"):
        upstream(tiny_models["gpt2"], PROMPT, "w5", "w9", node="9.0")
    with pytest.raises(Obstructed, match="parallel blocks"):
        upstream(tiny_models["neox"], PROMPT, "w5", "w9", node="1.0")
