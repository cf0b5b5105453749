"""Ablation, circuits, geometry of demonstrations, angles between edits: each against a known answer, with a negative control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from tests.operations import edit_of, hooks_on, noise
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.engine import applied
from workbench.errors import BadPrompt, NotEnoughData, Obstructed
from workbench.lenses.ablation import head_ablation
from workbench.lenses.circuits import circuit
from workbench.lenses.edit_angles import edit_angles
from workbench.lenses.geometry import demonstration_geometry
from workbench.operations import AddToWeight, TransformAt
from workbench.progress import Cancelled, Progress
from workbench.sites import Site

PROMPT, CORRUPT = words(1, 2, 3, 2, 5), words(1, 2, 3, 1, 5)
TEXTS = [words(*range(i, i + 8)) for i in range(10, 20)]


def moved(model: Any, seed: int) -> Any:
    """An edit that adds one vector after layer 1."""
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return edit_of(model, TransformAt(Site("resid_post", 1), lambda x: x + vector, 32))


def difference(model: Any, prompt: str) -> float:
    logits = model.logits(model.tokens(prompt))[0, -1].double()
    return float(logits[1] - logits[2])


def test_silencing_a_head_is_what_cutting_its_output_rows_does(tiny_gpt2: Any) -> None:
    head_ablation(tiny_gpt2, PROMPT, "w1", "w2")  # the engine's own hooks are put in place once, at first use
    before = hooks_on(tiny_gpt2)
    found = head_ablation(tiny_gpt2, PROMPT, "w1", "w2")
    assert hooks_on(tiny_gpt2) == before
    with torch.no_grad():
        assert found.difference[0] == pytest.approx(difference(tiny_gpt2, PROMPT), abs=1e-4)
        for layer, head in ((0, 1), (2, 3)):
            # z^h only goes through the head's columns of the output matrix: w_o as (out, in).
            dense = torch.zeros(32, 32)
            slot = tiny_gpt2.weight(Site("w_o", layer))
            whole = slot.parameter.detach().T if slot.is_transposed else slot.parameter.detach()
            dense[:, 8 * head : 8 * head + 8] = -whole[:, 8 * head : 8 * head + 8]
            with applied(tiny_gpt2, edit_of(tiny_gpt2, AddToWeight(Site("w_o", layer), dense))):
                cut = difference(tiny_gpt2, PROMPT)
            assert found.change[0, layer, head] == pytest.approx(cut - found.difference[0], abs=1e-3)
    assert np.abs(found.change).max() > 1e-3, "some head matters, or the test could not fail"


def test_the_ablation_follows_an_edit(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, AddToWeight(Site("w_o", 1), noise(32, 32)))
    found = head_ablation(tiny_gpt2, PROMPT, "w1", "w2", [(), (edit,)])
    assert len(found.lanes) == 2 and not np.allclose(found.change[0], found.change[1])


def test_all_edges_of_a_circuit_recover_everything_and_one_edge_does_not(tiny_gpt2: Any) -> None:
    circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=1)  # the engine's own hooks are put in place once, at first use
    before = hooks_on(tiny_gpt2)
    whole = circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=10**6)
    assert hooks_on(tiny_gpt2) == before
    assert whole.recovered == pytest.approx(1.0, abs=1e-3) and len(whole.edges) == whole.n_edges
    few = circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=1)
    assert few.edges[0] == whole.edges[0] and abs(few.recovered - 1.0) > 1e-3
    # Edges hang together from the logits back: an edge waits for a writer that it reads into, those into one reader come by size.
    for reader, port in {(edge.reader, edge.port) for edge in whole.edges}:
        sizes = [abs(edge.share) for edge in whole.edges if (edge.reader, edge.port) == (reader, port)]
        assert sizes == sorted(sizes, reverse=True)
    assert whole.edges[0].reader == "logits"
    assert {edge.port for edge in whole.edges} == {"", "Q", "K", "V"} and "logits" in {edge.reader for edge in whole.edges}


def test_a_circuit_is_refused_where_it_would_be_wrong(tiny_gpt2: Any, tiny_models: dict[str, Any]) -> None:
    with pytest.raises(BadPrompt, match="5 and 6 tokens"):
        circuit(tiny_gpt2, PROMPT, f"{CORRUPT} w7", "w1", "w2")
    with pytest.raises(BadPrompt, match="same logit difference"):
        circuit(tiny_gpt2, PROMPT, PROMPT, "w1", "w2")
    with pytest.raises(Obstructed, match="parallel blocks"):
        circuit(tiny_models["neox"], PROMPT, CORRUPT, "w1", "w2")


@pytest.mark.parametrize("last", [1, 3, 6])
def test_a_circuit_that_is_stopped_leaves_the_bridge_as_it_was(tiny_gpt2: Any, last: int) -> None:
    whole = circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=3)
    before, flags = hooks_on(tiny_gpt2), dict(vars(tiny_gpt2.bridge.cfg))
    n = [0]

    def stop(report: Any) -> None:
        n[0] += 1
        if n[0] > last:
            raise Cancelled

    with pytest.raises(Cancelled):
        circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=3, progress=Progress(stop))
    assert hooks_on(tiny_gpt2) == before and dict(vars(tiny_gpt2.bridge.cfg)) == flags
    assert circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=3) == whole


def sides(n: int, split: Any, first: int, second: int) -> list[Demonstration]:
    """Rows whose answers are always the same two words."""
    return [Demonstration(words(20 + i, 40 + i), f" w{first}", f" w{second}", split=split, id=f"{split}{i}") for i in range(n)]


def test_sides_with_words_of_their_own_are_told_apart_beyond_random_directions(tiny_gpt2: Any) -> None:
    rows = Demonstrations((*sides(10, "fit", 3, 7), *sides(12, "test", 3, 7)), "two words")
    found = demonstration_geometry(tiny_gpt2, rows)
    assert found.sides == ("positive", "negative") and found.points.shape == (3, 44, 2) and not found.withheld
    assert found.auc[0].estimate > 0.95 and found.p_values[0] < 0.05 and found.auc[0].n == 12
    assert found.auc[0].low <= found.auc[0].estimate <= found.auc[0].high
    first, held = np.array(found.is_first), np.array(found.held)
    assert held.sum() == 24
    assert found.points[0, first, 0].mean() > found.points[0, ~first, 0].mean(), "the first side lies at the right"
    assert len(found.table(1)) == 44 and found.rows()[0]["AUC"] == found.auc[0].estimate


def test_sides_that_differ_by_nothing_are_not_told_apart(tiny_gpt2: Any) -> None:
    """Negative control: sides swapped at random carry no direction to held-out rows."""
    rng = np.random.default_rng(0)
    pairs = [(3, 7) if rng.random() < 0.5 else (7, 3) for _ in range(60)]
    rows = [
        Demonstration(words(20 + i % 40, 40 + i % 30), f" w{a}", f" w{b}", split="fit" if i < 30 else "test")
        for i, (a, b) in enumerate(pairs)
    ]
    found = demonstration_geometry(tiny_gpt2, Demonstrations(tuple(rows), "shuffled"))
    assert all(value.low < 0.75 and value.estimate < 0.8 for value in found.auc) and max(found.p_values) > 0.05


def test_labels_are_sides_where_there_are_no_pairs_and_too_few_rows_withhold_the_score(tiny_gpt2: Any) -> None:
    told = [Demonstration(words(i, i + 1), label=" a" if i % 2 else " b", split="test" if i > 12 else "fit") for i in range(1, 30)]
    found = demonstration_geometry(tiny_gpt2, Demonstrations(tuple(told), "labels"))
    assert set(found.sides) == {" a", " b"} and len(found.places) == 29 and found.auc
    few = demonstration_geometry(tiny_gpt2, Demonstrations(tuple(sides(4, "fit", 3, 7)), "few"))
    assert "4 rows a side to fit and 0 held out" in few.withheld and few.auc == () and few.points.shape[1] == 8
    with pytest.raises(NotEnoughData, match="not two labels"):
        demonstration_geometry(tiny_gpt2, Demonstrations((Demonstration("w1"),), "bare"))


def test_an_edit_shares_its_directions_with_itself_and_not_with_a_random_one(tiny_gpt2: Any) -> None:
    one, other = moved(tiny_gpt2, 0), moved(tiny_gpt2, 1)
    same = edit_angles(tiny_gpt2, TEXTS, (one,), (one,))
    assert same.cosines[1][0] == pytest.approx(1.0) and same.ranks[1] == (1, 1)
    assert len(same.cosines[0]) == 0 and np.allclose(same.sizes[:, 0], 0), "the layer below is left as it is"
    apart = edit_angles(tiny_gpt2, TEXTS, (one,), (other,))
    assert apart.cosines[1][0] < 0.7
    assert 0 < same.random[1][0] < 0.6, "two random lines in 32 dimensions"
    assert apart.rows()[0]["largest cosine"] is None and apart.n_tokens == sum(len(text.split()) for text in TEXTS) + _n_bos(tiny_gpt2)


def _n_bos(model: Any) -> int:
    return len(TEXTS) * (model.tokens(TEXTS[0]).ids.shape[1] - 8)


def test_a_set_is_read_under_an_edit(tiny_gpt2: Any) -> None:
    rows = contrast_rows(24)
    base, edited = (demonstration_geometry(tiny_gpt2, rows, stack=stack) for stack in ((), (moved(tiny_gpt2, 0),)))
    assert np.allclose(base.points[0], edited.points[0]) and not np.allclose(base.points[2], edited.points[2])
