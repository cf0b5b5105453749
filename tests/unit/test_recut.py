"""A cut moved by hand: the same cut is the same edit, another one is another, and nothing is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows
from workbench.data.demonstrations import Demonstrations
from workbench.errors import Obstructed, UnknownKnob
from workbench.session import Session
from workbench.workspace.recut import recut
from workbench.workspace.story import EditStory, edit_story, source_of


def rows() -> Demonstrations:
    """Some of them held out, to be answered."""
    found = contrast_rows(30)
    return found.with_rows([replace(row, split="test" if i % 3 == 0 else "fit") for i, row in enumerate(found)])


def test_the_same_cut_says_the_same_and_another_one_is_another_edit(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    fitted = session.fit("sea", rows(), {"layers": (1,), "keep": 0.8}, seed=3)
    k_plus, k_minus = (int(fitted.report.arrays[f"k_{side}"][0]) for side in ("plus", "minus"))
    edit, n_runs = fitted.edit.dosed(2.0), len(session.workspace.runs.list())
    same = recut(tiny_gpt2, edit, rows(), {"k_plus": k_plus, "k_minus": k_minus})
    for name, tensor in edit.tensors().items():
        torch.testing.assert_close(same.edit.tensors()[name], tensor)
    assert same.edit.dose == 2.0 and len(same.prompts) == len(same.texts) == 3
    assert all(was == now for _, was, now in same.texts)
    other = recut(tiny_gpt2, edit, rows(), {"k_plus": k_plus + 1, "k_minus": k_minus}).edit.tensors()
    shapes = {name: tensor.shape for name, tensor in edit.tensors().items()}
    assert {name: tensor.shape for name, tensor in other.items()} != shapes, "one direction more is another edit"
    assert len(session.workspace.runs.list()) == n_runs


def test_a_method_without_directions_has_no_cut(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = Session(tiny_gpt2, tmp_path / "home").fit("mean_difference", rows(), {"layers": (1,)}).edit
    with pytest.raises(UnknownKnob, match="k_plus"):
        recut(tiny_gpt2, edit, rows(), {"k_plus": 2})
    whole = rows().with_rows([replace(row, split="fit") for row in rows()])
    with pytest.raises(Obstructed, match="held out"):
        recut(tiny_gpt2, edit, whole, {})


def test_a_set_that_was_edited_since_is_not_that_of_the_fit(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    saved = session.demos.save(rows()).id
    edit = session.fit("sea", saved, {"layers": (1,), "keep": 0.8}).edit

    def found() -> str:
        return source_of(edit_story(session.shelf, session.workspace, edit.id), session.demos)

    assert found() == saved
    changed = rows().with_rows(list(rows())[1:])
    session.demos.save(changed, key=saved)
    with pytest.raises(Obstructed, match="changed since"):
        found()
    with pytest.raises(Obstructed, match="is not the set that it was fitted on"):
        recut(tiny_gpt2, edit, changed, {})
    session.demos.save(rows(), key=saved)
    assert found() == saved, "the same rows are the same data, whatever their version"
    session.demos.save(changed, key=saved)
    unsaved = session.fit("sea", contrast_rows(40), {"layers": (1,)}).edit.id
    with pytest.raises(Obstructed, match="changed since|not here"):
        source_of(edit_story(session.shelf, session.workspace, unsaved), session.demos)


def test_a_story_is_of_its_dose_and_a_lane_of_a_sentence_is_no_edit(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    fit = session.fit("mean_difference", rows(), {"layers": (1,)}).edit
    doubled = session.save_edit(fit.dosed(2.0), "twice", verdict="It does it at dose 2.")

    def story(key: str, dose: float | None = None) -> EditStory:
        return edit_story(session.shelf, session.workspace, key, dose)

    plain = story(fit.id)
    assert plain.info is None and plain.edit.dose == 1.0 and plain.name != "twice", "it is saved at another dose only"
    assert (info := story(fit.id, 2.0).info) is not None and info.id == doubled.id
    assert story(doubled.id, 3.0).edit.dose == story("twice").edit.dose == 2.0, "a saved edit has its own dose"
    for lanes in ([[{"said": "w1"}], [{"edit": fit.id, "dose": 1.0}]], [[{"edit": fit.id, "dose": 1.0}, {"said": "w1"}]]):
        session.workspace.runs.record("evaluate", "x", inputs={"lanes": lanes}, model="m")
        assert not story(fit.id).measured
    session.workspace.runs.record("evaluate", "x", inputs={"lanes": [[{"edit": fit.id, "dose": 1.0}]]}, model="m")
    assert len(story(fit.id).measured) == 1
