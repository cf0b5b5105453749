"""Files and folders appear whole or not at all, replace only their own kind, and leave nothing behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.kept import edit
from workbench import whole
from workbench.edits.store import load_edit, save
from workbench.errors import StorageFailed

DEAD = 2**22 + 1  # above every process number of Linux


def test_only_a_folder_that_is_an_edit_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    goal = save(edit(), tmp_path / "edit")
    with pytest.raises(StorageFailed, match="exists already"):
        save(edit(2.0), goal)
    assert load_edit(save(edit(2.0), goal, overwrite=True)).id == edit(2.0).id
    (goal / "thesis.txt").write_text("mine")
    with pytest.raises(StorageFailed, match="something else"):
        save(edit(3.0), goal, overwrite=True)
    assert (goal / "thesis.txt").read_text() == "mine" and load_edit(goal).id == edit(2.0).id


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_something_of_the_users_in_the_place_of_an_edit_stays(tmp_path: Path, what: str) -> None:
    goal, own = tmp_path / "goal", tmp_path / "own"
    own.mkdir()
    (own / "notes.md").write_text("mine")
    if what == "file":
        goal.write_text("mine")
    elif what == "link":
        goal.symlink_to(own)
    else:
        own.rename(goal)
    with pytest.raises(StorageFailed, match="not replaced"):
        save(edit(), goal, overwrite=True)
    kept = goal if what == "file" else goal / "notes.md"
    assert kept.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == ({"goal"} if what == "folder" else {"goal", "own"})


def test_a_reader_never_misses_a_folder_that_is_being_replaced(tmp_path: Path) -> None:
    goal = save(edit(), tmp_path / "edit")
    stop, missed = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if not (goal / "edit.json").is_file():
                missed.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(40):
        save(edit(float(i)), goal, overwrite=True)
    stop.set()
    reader.join()
    assert missed == []


def test_without_an_exchange_in_one_step_two_renames_do_it_and_a_failed_second_one_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "_exchanged_at_once", lambda *_: False)
    goal = save(edit(), tmp_path / "edit")
    save(edit(2.0), goal, overwrite=True)
    rename, calls = os.replace, []

    def full(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(whole.os, "replace", full)
    with pytest.raises(StorageFailed, match="No space"):
        save(edit(3.0), goal, overwrite=True)
    assert load_edit(goal).id == edit(2.0).id and [path.name for path in tmp_path.iterdir()] == ["edit"]


def test_what_was_set_aside_by_a_process_killed_between_two_renames_comes_back(tmp_path: Path) -> None:
    goal = save(edit(), tmp_path / "edit")
    goal.rename(tmp_path / f".edit.unfinished-{DEAD}-abc-was")
    whole.tidy(tmp_path)
    assert load_edit(goal).id == edit().id and [path.name for path in tmp_path.iterdir()] == ["edit"]


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    for owner in (DEAD, os.getpid()):
        (tmp_path / f".edit.unfinished-{owner}-abc").mkdir()
    (tmp_path / ".hidden").write_text("the user's")
    whole.tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".edit.unfinished-{os.getpid()}-abc", ".hidden"}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = tmp_path / "file"
    whole.whole_file(goal, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        whole.whole_file(goal, b"two")
    assert goal.read_bytes() == b"one" and [path.name for path in tmp_path.iterdir()] == ["file"]
