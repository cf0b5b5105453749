"""The workspace: versions, undo, immutable runs, and a disk that refuses at the worst moment."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Header
from workbench.errors import CorruptEdit, NewerSchema, RetouchError, StorageFailed, UnknownName
from workbench.methods.mean_difference import AdditionEdit
from workbench.models.base import Fingerprint
from workbench.workspace.database import HOME, Database, home
from workbench.workspace.home import Workspace
from workbench.workspace.plain import plain


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def rows(*prompts: str, name: str = "pairs") -> Demonstrations:
    return Demonstrations(tuple(Demonstration(prompt, " good", tags=("a;b",)) for prompt in prompts), name)


def edit(value: float = 1.0) -> AdditionEdit:
    fingerprint = Fingerprint("tiny", "", "float32", "raw", "abc")
    header = Header("mean_difference", {"strength": 2.0}, fingerprint, "data", 0, {"torch": "2"}, {"layers": [1]})
    return AdditionEdit(header, {1: torch.full((4,), value)})


# ── demonstration sets ───────────────────────────────────────────────────────────────────────────────────────────


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


# ── edits, runs, notes, drafts ───────────────────────────────────────────────────────────────────────────────────


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


def test_a_deleted_edit_leaves_no_folder_and_an_altered_one_is_refused(workspace: Workspace) -> None:
    info, other = workspace.edits.save(edit(), "a"), workspace.edits.save(edit(2.0), "b")
    folder = workspace.edits.folder(info.id)
    workspace.edits.delete("a")
    assert not folder.exists() and [item.name for item in workspace.edits.list()] == ["b"]
    (workspace.edits.folder(other.id) / "edit.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorruptEdit):
        workspace.edits.load("b")


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


# ── a disk that refuses ──────────────────────────────────────────────────────────────────────────────────────────


def everything(workspace: Workspace, key: str) -> list[Any]:
    """Every kind of write, as calls."""
    long = rows(*(f"a prompt that takes some room {i}" for i in range(1500)))
    return [
        lambda: workspace.sets.save(long, key=key),
        lambda: workspace.sets.save(long),
        lambda: workspace.edits.save(edit(3.0), "new"),
        lambda: workspace.runs.record("fit", "t", inputs={"x": "y" * 300_000}, arrays={"x": np.ones(3)}),
        lambda: workspace.keep_draft("d", "y" * 300_000),
    ]


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections that may not grow the file: SQLite then refuses with its own "disk is full"."""
    connect = sqlite3.connect

    def capped(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db = connect(*args, **kwargs)
        db.execute("PRAGMA max_page_count = 1")
        return db

    with monkeypatch.context() as patch:
        patch.setattr("workbench.workspace.database.sqlite3.connect", capped)
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


def test_a_full_disk_is_named_and_nothing_saved_before_is_lost(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    key = workspace.sets.save(rows("typed")).id
    kept = workspace.edits.save(edit(), "kept").id
    for write in everything(workspace, key)[:2] + everything(workspace, key)[3:]:
        with full_disk(monkeypatch), pytest.raises(StorageFailed, match="full") as caught:
            write()
        assert "Free some space" in caught.value.hint
    assert workspace.sets.get(key) == rows("typed") and workspace.edits.load(kept).id == kept
    assert workspace.runs.list() == () and list((workspace.folder / "runs").iterdir()) == []
    # What the hint says works.
    assert workspace.sets.save(rows("typed", "more"), key=key).n == 2


def test_a_locked_database_is_named_and_the_write_leaves_nothing_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    key = workspace.sets.save(rows("typed")).id
    monkeypatch.setattr(workspace._database, "_timeout_s", 0.02)
    with locked(workspace._database.path):
        for write in everything(workspace, key):
            with pytest.raises(StorageFailed, match="locked") as caught:
                write()
            assert "close it" in caught.value.hint
    assert workspace.sets.get(key) == rows("typed")
    assert workspace.edits.list() == () and list((workspace.folder / "edits").iterdir()) == []
    assert len(workspace.sets.save(rows("x"), key=key).name) > 0


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "below", Path("/proc/retouch")):
        with pytest.raises(StorageFailed, match=str(folder)) as caught:
            Workspace(folder)
        assert "RETOUCH_HOME" in caught.value.hint


def test_a_file_that_is_no_database_is_named_damaged(tmp_path: Path) -> None:
    (tmp_path / "retouch.sqlite").write_bytes(b"not a database at all, " * 100)
    with pytest.raises(StorageFailed) as caught:
        Workspace(tmp_path)
    assert "damaged" in caught.value.hint


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Workspace(tmp_path).sets.save(rows("a"))
    with sqlite3.connect(tmp_path / "retouch.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match="schema 99; this version reads up to 1"):
        Workspace(tmp_path)
    with sqlite3.connect(tmp_path / "retouch.sqlite") as db:
        db.execute("PRAGMA user_version = 1")
    assert Workspace(tmp_path).sets.get("pairs") == rows("a")


def test_an_interrupt_in_the_middle_of_a_write_rolls_it_back(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), workspace._database.write() as db:
        db.execute("INSERT INTO drafts VALUES ('k', '1', 0)")
        raise KeyboardInterrupt
    assert workspace.draft("k") is None


def test_the_folder_is_the_argument_then_the_environment_then_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(tmp_path / "env"))
    assert home(tmp_path / "argument") == tmp_path / "argument"
    assert home() == tmp_path / "env"
    monkeypatch.delenv(HOME)
    assert home() == Path.home() / ".retouch"


def test_many_threads_write_one_set_and_every_version_is_kept(workspace: Workspace) -> None:
    key = workspace.sets.save(rows("start")).id
    failed: list[RetouchError] = []

    def work(number: int) -> None:
        try:
            for i in range(5):
                workspace.sets.save(rows(f"{number}-{i}"), key=key)
        except RetouchError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [version.version for version in workspace.sets.history(key)] == list(range(1, 22))


def _killed_mid_write(folder: Path) -> None:
    import os

    with Database(folder).write() as db:
        db.execute("INSERT INTO drafts VALUES ('half', '1', 0)")
        os._exit(9)


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_file_whole(workspace: Workspace) -> None:
    workspace.sets.save(rows("typed"))
    process = multiprocessing.get_context("fork").Process(target=_killed_mid_write, args=(workspace.folder,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert workspace.sets.get("pairs") == rows("typed") and workspace.draft("half") is None
    workspace.keep_draft("after", 1)


def test_plain_turns_results_into_json_types_and_not_a_number_into_null() -> None:
    value = {"edit": edit().header.model, "t": torch.ones(2), "n": float("nan"), "s": {2, 1}, "p": Path("x"), 3: (1.5,)}
    assert plain(value) == {
        "edit": {"name": "tiny", "revision": "", "dtype": "float32", "processing": "raw", "weights": "abc"},
        "t": [1.0, 1.0],
        "n": None,
        "s": [1, 2],
        "p": "x",
        "3": [1.5],
    }
