"""The workspace when something refuses: a full disk, a lock, a damaged file, an interrupt, a process killed mid-write."""

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

from tests.kept import edit, rows
from workbench.errors import NewerSchema, RetouchError, StorageFailed, Unexpected
from workbench.progress import Progress
from workbench.resources import HOME, home
from workbench.workspace.database import WORKSPACE_SCHEMA, Database
from workbench.workspace.home import Workspace
from workbench.workspace.jobs import Jobs
from workbench.workspace.plain import plain


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


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
    with pytest.raises(NewerSchema, match=f"schema 99; this version reads up to {WORKSPACE_SCHEMA}"):
        Workspace(tmp_path)
    with sqlite3.connect(tmp_path / "retouch.sqlite") as db:
        db.execute(f"PRAGMA user_version = {WORKSPACE_SCHEMA}")
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
        "edit": {"name": "tiny", "revision": "", "dtype": "float32", "processing": "raw", "weights": "abc", "sampled": ""},
        "t": [1.0, 1.0],
        "n": None,
        "s": [1, 2],
        "p": "x",
        "3": [1.5],
    }


@pytest.mark.parametrize("folder", ["reports", None])
def test_half_of_a_character_in_a_failure_ends_its_job(tmp_path: Path, folder: str | None, caplog: pytest.LogCaptureFixture) -> None:
    def fail(progress: Progress) -> None:
        raise ValueError("a name of \ud83d")

    reports = None if folder is None else tmp_path / folder
    with pytest.raises(Unexpected) as caught:
        Jobs(reports=reports).submit(fail, title="Reading \ud83d").result(20.0)
    assert str(caught.value).encode() and "\\ud83d" in str(caught.value)
    assert caplog.text.encode() and "\\ud83d" in caplog.text  # a log that is a file takes it
    if reports is not None:
        assert "a name of \\ud83d" in (reports / f"{caught.value.report_id}.txt").read_text()
