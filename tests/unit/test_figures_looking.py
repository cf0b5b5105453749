"""Figures of heads, attribution, patching, circuits, geometry and angles: the records' own numbers, units, centred colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from tests.operations import edit_of
from workbench.figures.attribution import by_layer, component_bars, component_word, head_attribution, head_values
from workbench.figures.circuits import circuit_curve, circuit_graph
from workbench.figures.geometry import angle_layers, angles, projection, separation
from workbench.figures.heads import head_kind, name_mover_map, proof_bars, pushed_and_ablated, top_heads
from workbench.figures.patching import patching_heads, patching_streams
from workbench.lenses.ablation import head_ablation
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.circuits import circuit
from workbench.lenses.edit_angles import edit_angles
from workbench.lenses.geometry import demonstration_geometry
from workbench.lenses.heads import head_scores, name_movers
from workbench.lenses.induction import InductionProof
from workbench.lenses.patching import activation_patching, attribution_patching
from workbench.operations import TransformAt
from workbench.sites import Site

PROMPT, CORRUPT = words(1, 2, 3, 2, 5), words(1, 2, 3, 1, 5)


@pytest.fixture(scope="module")
def edit(tiny_models: Any) -> Any:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    return edit_of(tiny_models["gpt2"], TransformAt(Site("resid_post", 1), lambda x: x + vector, 32))


def test_components_are_bars_with_a_unit_and_their_sum_ends_at_the_models_own_difference(tiny_gpt2: Any, edit: Any) -> None:
    found = direct_attribution(tiny_gpt2, PROMPT, "w1", "w2", [(), (edit,)])
    figure = component_bars(found)
    assert [list(bar.x) for bar in figure.data] == found.values.tolist()
    assert "logit of w1 less that of w2" in figure.layout.xaxis.title.text
    ends = [line.y[-1] for line in by_layer(found).data]
    assert np.allclose(ends, found.difference, atol=1e-4)
    assert figure.data[0].marker.color != figure.data[1].marker.color
    alone = direct_attribution(tiny_gpt2, PROMPT, "w1")
    assert component_bars(alone).layout.xaxis.title.text == "logit of w1"
    assert component_bars(alone).data[0].marker.color == figure.data[0].marker.color, "the base is grey, also alone"


@pytest.mark.parametrize(
    ("label", "said"),
    [("0_attn_out", "layer 0, attention"), ("12_mlp_out", "layer 12, MLP"), ("L2H3", "head 2.3"), ("embed", "token embedding")],
)
def test_components_have_names_that_people_say(label: str, said: str) -> None:
    assert component_word(label) == said


def test_heads_stand_at_their_layer_and_number_and_colours_are_centred(tiny_gpt2: Any) -> None:
    found = direct_attribution(tiny_gpt2, PROMPT, "w1", "w2", unit="head")
    z = head_values(found)
    assert z.shape == (3, 4) and z[2, 3] == found.values[0, found.labels.index("L2H3")]
    heat = head_attribution(found).data[0]
    assert heat.zmin == -heat.zmax and np.allclose(np.array(heat.z, dtype=float), z)
    assert head_values(direct_attribution(tiny_gpt2, PROMPT, "w1")).size == 0, "a record by component has no heads"


def test_kinds_of_heads_show_scores_errors_and_even_attention(tiny_gpt2: Any) -> None:
    found = head_scores(tiny_gpt2, n=3, length=10)
    heat = head_kind(found, "induction").data[0]
    assert (heat.zmin, heat.zmax) == (0, 1) and np.allclose(np.array(heat.z, dtype=float), found.scores[0, 2])
    figure = top_heads(found, "induction", 3)
    best = found.top("induction", 3)
    assert list(figure.data[0].x) == [score for *_, score in best]
    assert list(figure.data[0].error_x.array) == [found.errors[0, 2, layer, head] for layer, head, _ in best]
    assert figure.layout.shapes[0].x0 == found.chance[2]


def test_name_movers_are_marks_and_push_stands_beside_what_ablation_takes(tiny_gpt2: Any) -> None:
    found, measured = name_movers(tiny_gpt2, PROMPT, "w1", "w2"), head_ablation(tiny_gpt2, PROMPT, "w1", "w2")
    marks = name_mover_map(found).data[0]
    assert list(marks.x) == found.attention[0].ravel().tolist() and list(marks.y) == found.push[0].ravel().tolist()
    assert all(marks.customdata), "hover names every head"
    push, lost = pushed_and_ablated(found, measured, k=4).data
    for at, name in enumerate(push.y):
        layer, head = map(int, name.split("."))
        assert push.x[at] == found.push[0, layer, head] and lost.x[at] == -measured.change[0, layer, head]
    assert push.marker.pattern.shape != lost.marker.pattern.shape, "colour is not the only sign"


def test_patching_maps_are_centred_and_an_estimate_leaves_out_what_it_does_not_cover(tiny_gpt2: Any) -> None:
    asked = (tiny_gpt2, PROMPT, CORRUPT, "w1", "w2")
    measured = activation_patching(*asked)
    maps = patching_streams(measured).data
    assert len(maps) == 3
    for k, heat in enumerate(maps):
        assert heat.zmin == -heat.zmax <= -1 and np.allclose(np.array(heat.z, dtype=float), measured.streams[0, k])
    assert any("→" in name for name in maps[0].x), "the word that was changed is marked"
    estimated = patching_streams(attribution_patching(*asked))
    assert (
        len(estimated.data) == 1
        and "estimated" in estimated.layout.title.text
        and "measured" in patching_streams(measured).layout.title.text
    )
    assert np.allclose(np.array(patching_heads(measured).data[0].z, dtype=float), measured.heads[0])


def test_a_circuit_draws_every_edge_once_with_its_sign_by_dash_and_colour(tiny_gpt2: Any) -> None:
    found = circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=12)
    figure = circuit_graph(found)
    lines, nodes = [part for part in figure.data if part.mode == "lines"], figure.data[-1]
    assert len(lines) == 12
    assert {(line.line.dash, line.line.color) for line in lines if line.name == "towards"} <= {("solid", "#D55E00")}
    assert {(line.line.dash, line.line.color) for line in lines if line.name == "away from"} <= {("dot", "#0072B2")}
    assert set(nodes.text) == {name for edge in found.edges for name in (edge.writer, edge.reader)}
    height = dict(zip(nodes.text, nodes.y))
    assert all(height[edge.writer] < height[edge.reader] for edge in found.edges), "information flows upwards"
    assert max(line.line.width for line in lines) == pytest.approx(7.0)


def test_a_circuits_curve_stands_beside_random_ones_and_a_proof_shows_its_worst_draws(tiny_gpt2: Any) -> None:
    found = circuit(tiny_gpt2, PROMPT, CORRUPT, "w1", "w2", n_edges=12)
    strongest, *random = circuit_curve(found).data
    assert list(strongest.x) == list(found.sizes) and list(strongest.y) == list(found.curve)
    assert [tuple(line.y) for line in random] == list(found.random) and {line.line.dash for line in random} == {"dot"}
    proof = InductionProof("tiny", ((1, 0),), (0.9,), 0.8, 0.1, (0.7, 0.8), 8, 0)
    bars = proof_bars(proof).data[0]
    assert list(bars.x) == [0.8, 0.1, 0.75] and bars.error_x.array[2] == pytest.approx(0.05)
    assert "gives the repeated token 10% instead of 80%" in proof.says


def test_both_sides_are_projected_with_their_rows_behind_the_marks_and_a_ring_on_the_chosen_one(tiny_gpt2: Any) -> None:
    found = demonstration_geometry(tiny_gpt2, contrast_rows(40))
    figure = projection(found, 1, frozenset({3}))
    assert sum(len(part.x) for part in figure.data) == len(found.places)
    rows = [row[0] for part in figure.data for row in part.customdata]
    assert sorted(rows) == sorted(found.places)
    assert sum(width > 0 for part in figure.data for width in part.marker.line.width) == 2, "both answers of the row"
    assert {part.marker.symbol for part in figure.data} == {"circle", "x"}
    lines = separation(found).data
    assert list(lines[0].y) == [value.estimate for value in found.auc] and list(lines[1].y) == list(found.random_auc)
    assert [line.y0 for line in separation(found).layout.shapes] == [0.5], "what the words alone tell is drawn where that is known"
    assert [line.y0 for line in separation(found, 0.8).layout.shapes] == [0.5, 0.8]


def test_angles_stand_beside_random_ones_and_layers_left_alone_have_no_mark(tiny_gpt2: Any, edit: Any) -> None:
    found = edit_angles(tiny_gpt2, [words(*range(i, i + 6)) for i in range(4)], (edit,), (edit,))
    both, random = angles(found, 1).data
    assert list(both.y) == found.cosines[1].tolist() and list(random.y) == found.random[1].tolist() and random.line.dash == "dot"
    line = angle_layers(found).data[0]
    assert line.y[0] is None and line.y[1] == pytest.approx(1.0)
