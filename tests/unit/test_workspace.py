"""The workspace: versions and undo of sets, edits by id and name, immutable runs, notes and drafts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.kept import edit, rows
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadDemonstrations, CorruptEdit, StorageFailed, UnknownName
from workbench.workspace.home import Workspace
from workbench.workspace.shelf import Shelf
from workbench.workspace.sweeping import BIN_DAYS, clean


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def test_a_set_is_found_again_after_the_program_has_ended(tmp_path: Path) -> None:
    saved = Workspace(tmp_path).sets.save(rows("a", "b"), note="imported pairs.csv")
    again = Workspace(tmp_path)
    assert again.sets.get(saved.id) == rows("a", "b") == again.sets.get("pairs")
    assert [(info.name, info.n, info.note) for info in again.sets.list()] == [("pairs", 2, "imported pairs.csv")]


def test_a_text_that_is_empty_for_now_is_kept_as_it_was_typed(workspace: Workspace) -> None:
    typed = Demonstrations((Demonstration("", "", None, tags=("x",), split="test"),), "draft")
    assert workspace.sets.get(workspace.sets.save(typed).id) == typed


def test_undo_and_redo_walk_the_versions_and_stop_at_the_ends(workspace: Workspace) -> None:
    sets = workspace.sets
    key = sets.save(rows("a")).id
    for prompts in (("a", "b"), ("a", "b", "c")):
        sets.save(rows(*prompts), key=key)
    sizes = [len(sets.get(sets.undo(key).id)) for _ in range(3)]
    assert sizes == [2, 1, 1]
    assert not sets.info(key).can_undo and sets.info(key).can_redo
    assert [len(sets.get(sets.redo(key).id)) for _ in range(3)] == [2, 3, 3]


def test_saving_after_an_undo_starts_a_branch_and_loses_no_version(workspace: Workspace) -> None:
    sets = workspace.sets
    key = sets.save(rows("a")).id
    sets.save(rows("a", "wrong turn"), key=key)
    sets.undo(key)
    info = sets.save(rows("a", "right"), key=key, note="typed again")
    assert sets.get(key) == rows("a", "right") and not info.can_redo
    assert [(v.version, v.parent, v.is_current) for v in sets.history(key)] == [
        (1, None, False),
        (2, 1, False),
        (3, 1, True),
    ]
    assert sets.get(key, 2) == rows("a", "wrong turn")
    assert sets.get(sets.go_to(key, 2).id) == rows("a", "wrong turn")


def test_saving_equal_rows_makes_no_version(workspace: Workspace) -> None:
    key = workspace.sets.save(rows("a")).id
    assert workspace.sets.save(rows("a"), key=key).version == 1
    assert workspace.sets.save(rows("b"), key=key).version == 2


def test_a_name_that_is_taken_gets_a_number_and_a_deleted_set_can_come_back(workspace: Workspace) -> None:
    first, second = workspace.sets.save(rows("a")), workspace.sets.save(rows("b"))
    assert (first.name, second.name) == ("pairs", "pairs 2")
    workspace.sets.delete("pairs")
    with pytest.raises(UnknownName, match="Known: pairs 2"):
        workspace.sets.get("pairs")
    assert workspace.sets.restore(first.id).name == "pairs"
    assert workspace.sets.rename("pairs 2", "spare").name == "spare"


def test_an_unknown_version_is_named_with_the_known_ones(workspace: Workspace) -> None:
    workspace.sets.save(rows("a"))
    with pytest.raises(UnknownName, match="'7'. Known: 1"):
        workspace.sets.get("pairs", 7)


def test_an_edit_is_found_by_id_and_name_with_the_same_tensors(workspace: Workspace) -> None:
    run = workspace.runs.record("fit", "first fit", inputs={})
    info = workspace.edits.save(edit(), "truth", verdict="0.44 → 0.94", run_id=run.id)
    again = Workspace(workspace.folder).edits
    assert again.load("truth").id == again.load(info.id).id == edit().id
    assert (info.method, info.verdict, info.model.weights, info.run_id) == ("mean_difference", "0.44 → 0.94", "abc", run.id)


def test_saving_the_same_edit_again_renames_it_and_keeps_its_report(workspace: Workspace) -> None:
    workspace.edits.save(edit(), "one", run_id="r")
    workspace.edits.save(edit(), "two")
    assert [(item.name, item.run_id) for item in workspace.edits.list()] == [("two", "r")]


def test_a_deleted_edit_lies_in_the_bin_and_can_be_taken_out(workspace: Workspace) -> None:
    info = workspace.edits.save(edit(), "a")
    workspace.edits.save(edit(2.0), "b")
    workspace.edits.delete("a")
    assert [item.name for item in workspace.edits.list()] == ["b"] and "a" not in workspace.edits.known()
    with pytest.raises(UnknownName, match="Known: b"):
        workspace.edits.load(info.id)
    assert [item.id for item in workspace.edits.deleted()] == [info.id]
    assert workspace.edits.restore(info.id).name == "a" and workspace.edits.load("a").id == edit().id
    with pytest.raises(UnknownName, match="deleted edit"):
        workspace.edits.restore(info.id)


def test_saving_a_deleted_edit_again_takes_it_out_of_the_bin(workspace: Workspace) -> None:
    workspace.edits.save(edit(), "a")
    workspace.edits.delete("a")
    assert workspace.edits.save(edit(), "again").name == "again" and workspace.edits.deleted() == ()


def test_what_was_deleted_goes_for_good_after_thirty_days(workspace: Workspace) -> None:
    info, key = workspace.edits.save(edit(), "a"), workspace.sets.save(rows("x")).id
    workspace.sets.save(rows("y"))
    folder = workspace.edits.folder("a")
    workspace.edits.delete("a")
    workspace.sets.delete(key)
    clean(workspace._database, time.time() + (BIN_DAYS - 1) * 86_400)
    assert [item.id for item in workspace.edits.deleted()] == [info.id] and [item.id for item in workspace.sets.deleted()] == [key]
    clean(workspace._database, time.time() + (BIN_DAYS + 1) * 86_400)
    assert workspace.edits.deleted() == () == workspace.sets.deleted() and not folder.exists()
    assert [item.n for item in workspace.sets.list()] == [1]


def test_a_set_taken_out_of_the_bin_gets_a_number_where_its_name_is_taken(workspace: Workspace) -> None:
    first = workspace.sets.save(rows("x"))
    workspace.sets.delete(first.id)
    workspace.sets.save(rows("y"))
    assert workspace.sets.restore(first.id).name == "pairs 2"
    with pytest.raises(UnknownName, match="deleted set"):
        workspace.sets.restore(first.id)


def test_an_altered_edit_is_refused_and_saving_it_again_mends_it(workspace: Workspace) -> None:
    info = workspace.edits.save(edit(), "b")
    (workspace.edits.folder(info.id) / "edit.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorruptEdit):
        workspace.edits.load("b")
    workspace.edits.save(edit(), "b")
    assert workspace.edits.load("b").id == info.id


def test_a_run_keeps_inputs_metrics_arrays_and_the_versions_that_made_it(workspace: Workspace) -> None:
    arrays = {"spectrum": np.arange(3.0)}
    run = workspace.runs.record(
        "fit", "SEA", inputs={"layers": (2, 3)}, metrics={"auc": np.float64(0.5)}, arrays=arrays, seed=7, model="tiny"
    )
    again = workspace.runs.get(run.id)
    assert again == run and again.inputs == {"layers": [2, 3]} and again.metrics == {"auc": 0.5}
    assert again.versions["torch"] == torch.__version__.split("+")[0] or again.versions["torch"] == torch.__version__
    assert np.array_equal(workspace.runs.arrays(run.id)["spectrum"], arrays["spectrum"])
    assert workspace.runs.list("evaluate") == () and workspace.runs.list("fit") == (run,)


def test_a_run_cannot_be_changed_afterwards(workspace: Workspace) -> None:
    run = workspace.runs.record("fit", "SEA", inputs={})
    with pytest.raises(StorageFailed, match="a run is immutable"), workspace._database.write() as db:
        db.execute("UPDATE runs SET metrics = '{}' WHERE id = ?", (run.id,))


def test_lost_arrays_are_named_and_not_read_as_none(workspace: Workspace) -> None:
    run = workspace.runs.record("fit", "SEA", inputs={}, arrays={"x": np.ones(2)})
    (workspace.folder / "runs" / f"{run.id}.npz").unlink()
    with pytest.raises(StorageFailed, match=f"arrays of run {run.id}"):
        workspace.runs.arrays(run.id)
    workspace.runs.delete(run.id)
    assert workspace.runs.list() == ()


def test_notes_and_pins_stay_with_their_item_and_order_the_list(workspace: Workspace) -> None:
    old, new = (workspace.runs.record("fit", title, inputs={}) for title in ("old", "new"))
    workspace.pin("run", old.id)
    workspace.note("run", old.id, "the good one")
    assert [(run.title, run.note, run.is_pinned) for run in workspace.runs.list()] == [
        ("old", "the good one", True),
        ("new", "", False),
    ]
    workspace.pin("run", old.id, False)
    assert [run.id for run in workspace.runs.list()] == [new.id, old.id]
    with pytest.raises(UnknownName):
        workspace.note("run", "nothing", "x")


def test_a_draft_is_on_disk_before_it_becomes_anything(tmp_path: Path) -> None:
    Workspace(tmp_path).keep_draft("compare", {"prompts": ["Q: …"], "top_k": None})
    again = Workspace(tmp_path)
    assert again.draft("compare") == {"prompts": ["Q: …"], "top_k": None}
    again.drop_draft("compare")
    assert again.draft("compare", "gone") == "gone"


def test_a_set_named_like_one_that_ships_gets_a_number_and_is_found_by_its_name(workspace: Workspace) -> None:
    shelf = Shelf(lambda: workspace)
    named = Demonstrations(rows("a", "b").rows, "truthfulness")
    saved = shelf.save(named)
    assert saved.name == "truthfulness 2" and shelf.resolve("truthfulness 2").rows == named.rows != shelf.resolve("truthfulness").rows
    assert shelf.rename(saved.id, "mood").name == "mood 2"
    imported, info = shelf.import_file(b"prompt,positive\na, b\nc, d\n", "refusal.csv")
    assert info is not None and info.name == "refusal 2" and shelf.resolve("refusal 2").rows == imported.demonstrations.rows


@pytest.mark.parametrize("name", ["pairs.v2", "mine/yours", "happy+sad", "réglage.csv"])
def test_a_set_is_found_by_any_name_a_person_gave_it(workspace: Workspace, name: str) -> None:
    shelf = Shelf(lambda: workspace)
    shelf.save(Demonstrations(rows("a", "b").rows, name))
    assert shelf.resolve(name).rows == rows("a", "b").rows


def test_a_damaged_set_is_named_and_hides_no_other(workspace: Workspace) -> None:
    shelf = Shelf(lambda: workspace)
    bad, good = shelf.save(rows("a", "b")), shelf.save(Demonstrations(rows("c", "d").rows, "good"))
    with workspace.sets._database.write() as db:  # pyright: ignore[reportPrivateUsage] - as a disk would
        db.execute("UPDATE set_versions SET rows = ?, pieces = NULL WHERE set_id = ?", ('[{"prompt": 3}]', bad.id))
    assert {offer.id for offer in shelf.list() if not offer.is_shipped} == {bad.id, good.id}
    assert shelf.n_split("good") == {"fit": 2}
    with pytest.raises(BadDemonstrations, match="'pairs', version 1, are damaged"):
        shelf.get(bad.id)
