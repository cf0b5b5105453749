"""Where a method starts without a named layer: by depth in small networks, by a look at the fit rows alone in others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows, meaningless_rows
from tests.conftest import taught_rows
from tests.made_edits import draw, shift
from workbench import record
from workbench.data.demonstrations import Demonstration
from workbench.data.sides import SIDES, rows_of_sides, two_sides
from workbench.methods import get
from workbench.methods.hpr import fit as hpr
from workbench.methods.shared import places, reading, starts
from workbench.methods.shared.places import sides_held_apart, slopes
from workbench.methods.shared.reading import tokens_of_side
from workbench.methods.shared.starts import start_layer
from workbench.progress import silent
from workbench.score import batch_scores


@pytest.fixture
def of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks count as networks of size."""
    monkeypatch.setattr(starts, "SMALL", 0)
    monkeypatch.setattr(hpr, "SMALL", 0)
    monkeypatch.setattr(reading, "SMALL", 0)


def test_a_small_network_starts_by_depth_and_is_not_looked_at(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "read_side", lambda *_: pytest.fail("a look"))
    assert start_layer(tiny_gpt2, taught_rows(40), "last", 2, silent()).layer == 2


def _turned(row: Demonstration) -> Demonstration:
    """The row with its sides, or its side, turned over."""
    label = {"target": "anti_target", "anti_target": "target"}.get(str(row.label), row.label)
    return replace(row, positive=row.negative, negative=row.positive, label=label)


@pytest.mark.usefixtures("of_size")
@pytest.mark.parametrize("rows", [taught_rows(60), concept_rows(80)], ids=["pairs", "sets"])
def test_the_layer_comes_from_fit_rows_alone_and_says_why(tiny_gpt2: Any, rows: Any) -> None:
    found = start_layer(tiny_gpt2, rows, "last", 99, silent())
    assert 0 <= found.layer < tiny_gpt2.info.n_layers and "by a look at all" in found.notices[0].text
    poisoned = rows.with_rows(row if row.split == "fit" else replace(row, prompt="") for row in rows)
    again = start_layer(tiny_gpt2, poisoned, "last", 99, silent())
    assert again == found
    # The negative control: other fit rows are another look.
    other = rows.with_rows(_turned(row) if row.split == "fit" and i % 2 else row for i, row in enumerate(rows))
    assert start_layer(tiny_gpt2, other, "last", 99, silent()).notices != found.notices


@pytest.mark.usefixtures("of_size")
def test_sides_that_do_not_differ_leave_the_layer_to_depth_and_say_so(tiny_gpt2: Any) -> None:
    found = start_layer(tiny_gpt2, meaningless_rows(120), "last", 1, silent())
    assert found.layer == 1 and "by depth" in found.notices[0].text and found.notices[0].level == "warning"
    few = start_layer(tiny_gpt2, taught_rows(60).first(2), "last", 1, silent())
    assert few.layer == 1 and "2 are needed" in few.notices[0].text


@pytest.mark.usefixtures("of_size")
@pytest.mark.parametrize("name", ["mean_difference", "angular"])
def test_methods_start_from_the_look_and_from_what_is_named(tiny_gpt2: Any, name: str) -> None:
    rows, method = taught_rows(60), get(name)
    wanted = start_layer(tiny_gpt2, rows, "mean", 0, silent()).layer
    fitted = method.fit(tiny_gpt2, rows, method.configure({}))
    assert fitted.edit.header.facts["layers"] == [wanted] and any("by a look at all" in one.text for one in fitted.report.notices)
    other = (wanted + 1) % 3
    assert method.fit(tiny_gpt2, rows, method.configure({"layers": (other,)})).edit.header.facts["layers"] == [other]


@pytest.mark.usefixtures("of_size")
def test_what_the_look_reads_the_fit_does_not_read_again(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, method, passes, run = taught_rows(60), get("mean_difference"), list[int](), record.activations

    def counted(model: Any, batch: Any, *args: Any) -> Any:
        passes.append(len(batch))
        return run(model, batch, *args)

    monkeypatch.setattr(record, "activations", counted)
    method.fit(tiny_gpt2, rows, method.configure({}))
    assert sum(passes) == 2 * len(rows.split("fit")), "both sides of each row once"
    passes.clear()
    method.run(tiny_gpt2, rows, method.configure({}), seed=0, progress=silent())
    assert sum(passes) == 4 * len(rows.split("fit")), "without what is kept the look and the fit each read them"


def test_slopes_are_what_a_small_push_of_every_ordinary_token_changes_however_many_texts_go_at_once(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (two_sides(taught_rows(20).split("fit"))[side][:5] for side in SIDES)
    found = slopes(tiny_gpt2, (good, bad), silent())
    assert found.shape == (3, tiny_gpt2.info.d_model)
    assert torch.allclose(found[[0, 2]], slopes(tiny_gpt2, (good, bad), silent(), [2, 0]), atol=1e-5), "at some layers as at all"
    monkeypatch.setattr(places, "_AT_ONCE", 2)
    assert torch.allclose(slopes(tiny_gpt2, (good, bad), silent()), found, atol=1e-5)

    def margin(edit: Any) -> float:
        """Mean log-probability a token of the good answers less that of the bad."""
        means: list[float] = []
        for side in (good, bad):
            batch = tokens_of_side(tiny_gpt2, side)
            (scores,) = batch_scores(tiny_gpt2, batch, [(edit,)]).total.double()
            means.append(float((scores / (batch.lengths - batch.n_prompt)).mean()))
        return means[0] - means[1]

    for layer in range(3):
        push = shift(tiny_gpt2, layer=layer, seed=layer)
        vector = 0.5 * draw(tiny_gpt2.info.d_model, seed=layer).double()
        by = (margin(push.dosed(0.01)) - margin(push.dosed(-0.01))) / 0.02
        assert by == pytest.approx(float(found[layer] @ vector), rel=0.02, abs=2e-3)


def test_every_third_prompt_judges_and_the_other_texts_are_read(tiny_gpt2: Any) -> None:
    rows = taught_rows(60)
    held = set(sides_held_apart(rows, 3)[1])
    for mask, side in zip(starts._looked_at(rows)[1], SIDES):
        behind = rows_of_sides(rows)[side][: starts.MOST_ROWS]
        assert [row in held for row in behind] == mask and 0 < sum(mask) < len(mask) / 2
