"""What an edit moves: layers, directions, answers and weights, each told from a random edit of its size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, taught_rows
from workbench.data.demonstrations import Demonstrations
from workbench.errors import NotEnoughData
from workbench.figures.moves import (
    direction_rows,
    direction_shares,
    layers_moved,
    rotation_map,
    sides_moved,
    weight_spectrum,
    weights_moved,
)
from workbench.figures.theme import themed
from workbench.lenses.edit_moves import edit_moves
from workbench.lenses.weight_moves import weight_moves
from workbench.methods import get
from workbench.methods.registry import FitReport
from workbench.models.direction_tokens import direction_tokens


def fitted(model: Any, method: str, rows: Any, **config: Any) -> Any:
    known = get(method)
    return known.fit(model, rows, known.configure(config), seed=0).edit


def test_an_edit_that_adds_one_vector_moves_its_layer_along_that_vector_and_no_layer_before(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, "mean_difference", contrast_rows(), layers=[1], where="all")
    found = edit_moves(tiny_gpt2, edit, contrast_rows())
    assert found.sizes[0, 0] == 0 and found.sizes[0, 1] > 0 and found.strongest >= 1 and found.is_good.sum() * 2 == len(found.is_good)
    one = found.at(1)
    (vector,) = (v for layer, v in edit.vectors.items() if int(layer) == 1)
    assert one.directions[0].share == pytest.approx(1.0, abs=1e-6)
    assert set(one.directions[0].promotes) <= {text for text, _ in direction_tokens(tiny_gpt2, vector, 12).promoted}
    # A random edit of its size pushes every text the same way too, and as far; it is turned elsewhere.
    assert found.sizes[1, 1] == pytest.approx(found.sizes[0, 1], rel=1e-4) and one.random_shares[0] == pytest.approx(1.0, abs=1e-6)
    moves = one.after - one.before
    assert (moves[:, 0] > 0).all() and np.ptp(moves[:, 0]) < 1e-3 * abs(moves[:, 0].mean()), "all texts by the same vector"
    with pytest.raises(KeyError):
        found.at(0)


def test_the_texts_farthest_along_a_direction_are_those_of_the_largest_projection(tiny_gpt2: Any) -> None:
    rows = contrast_rows()
    edit = fitted(tiny_gpt2, "mean_difference", rows, layers=[1], where="all")
    found = edit_moves(tiny_gpt2, edit, rows)
    one = found.at(1)
    order = one.before[:, 0].argsort()[::-1]
    told = one.directions[0]
    assert len(told.most) == len(told.least) == 3 and told.most != told.least
    along = dict(zip(told.most, sorted(one.before[:, 0])[::-1]))
    assert len(along) == len(set(told.most)) and order[0] != order[-1]
    assert len(direction_rows(found, 1)) == len(one.directions)
    assert not sides_moved(found, 1).layout.annotations, "the legend stands above both halves, so no title does"
    assert [axis.title.text.split(":")[0] for axis in sides_moved(found, 1).select_xaxes()] == ["before", "after"]
    assert direction_shares(found, 1).layout.xaxis.ticktext[0].startswith("1<br>")
    for figure in (layers_moved(found), direction_shares(found, 1), sides_moved(found, 1)):
        assert themed(figure).layout.title.text
    with pytest.raises(NotEnoughData, match="no answer of either side"):
        edit_moves(tiny_gpt2, edit, Demonstrations((), "nothing"))


def test_a_delta_of_weights_has_its_spectrum_beside_a_random_one_of_its_rank_and_size(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, "lora", taught_rows(8), epochs=2, rank=2)
    found = weight_moves(tiny_gpt2, edit)
    assert found.moves and len(found.rows()) == len(found.moves)
    for one in found.moves:
        op = next(op for op in edit.operations() if str(op.site) == one.site)
        exact = torch.linalg.svdvals(op.delta.dense())
        assert np.allclose(one.values, exact[: len(one.values)].numpy(), atol=1e-9) and 1 <= one.rank <= 2.0001
        assert np.linalg.norm(one.random) == pytest.approx(np.linalg.norm(one.values), rel=1e-6) and 1 < one.random_rank <= 2.0001
        assert one.size > 0
    assert weights_moved(found).data and weight_spectrum(found.moves[0]).data
    # An edit of activations adds nothing to weights.
    assert weight_moves(tiny_gpt2, fitted(tiny_gpt2, "mean_difference", contrast_rows())).moves == ()


def test_a_full_delta_of_one_direction_is_told_from_a_random_one(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, "finetuning", taught_rows(8), epochs=1)
    found = weight_moves(tiny_gpt2, edit)
    assert found.moves and all(one.rank < one.random_rank for one in found.moves), "a few examples move few directions"


def test_a_map_of_turned_heads_names_the_head_that_turns_most() -> None:
    rms = np.zeros((2, 3))
    rms[1, 2], rms[0, 0] = 0.5, 0.1
    arrays = {"angles_rms": rms, "cosine": np.ones((2, 3)), "turned_layers": np.array([4, 7])}
    (picture,) = rotation_map(FitReport(arrays=arrays))
    assert picture.says.startswith("Head 7.2 is turned most, by 0.50") and len(picture.rows) == 6
    assert np.isnan(np.array(picture.figure.data[0].z, dtype=float)[0, 1]), "a head that is not turned stays blank"
    (told,) = rotation_map(FitReport(arrays={**arrays, "angles_random": np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.1])}))
    bars, random = told.figure.data[1:]
    assert list(bars.customdata) == ["7.2", "4.0"] and list(bars.y) == [0.5, 0.1] and len(random.y) == 6
    assert "of a random point of its box: 0.30 and 0.15" in told.says and "box" not in picture.says
    (still,) = rotation_map(FitReport(arrays={**arrays, "angles_rms": np.zeros((2, 3))}))
    assert still.says == "No head is turned: this edit leaves the model as it is."
    assert np.isnan(np.array(still.figure.data[0].z, dtype=float)).all()


def test_a_legend_of_several_lines_gets_room_under_the_title() -> None:
    from workbench.figures.basic import Line, lines

    def drawn(*names: str) -> Any:
        return themed(lines("Title", [Line(name, [0, 1], [0, 1]) for name in names], "x", "y", height=300)).layout

    few, many = drawn("a", "b"), drawn(*(f"layer {i}, directions that are dropped" for i in range(6)))
    assert few.margin.t is None and few.height == 300
    assert many.margin.t >= 56 + 20 * 4 and many.height - 300 == many.margin.t - 56
    assert drawn("difference of the means", "random directions, mean").margin.t == 56 + 20, "two long names in a narrow column"
    assert themed(lines("Title", [Line("one", [0], [0])], "x", "y", height=300)).layout.height == 300
