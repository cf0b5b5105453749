"""Kills and full disks at forced points: the n-th rename, write, flush to disk or statement of the database is where it happens.

A child process does the work and tells each acknowledged item through a pipe; the parent opens the workspace again and looks.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tests.kept import edit, rows
from workbench import whole
from workbench.errors import StorageFailed, UnknownName
from workbench.workspace import database
from workbench.workspace.home import Workspace

Event = Literal["kill", "full"]


class _Statements(sqlite3.Connection):
    """A connection whose every statement counts as a point."""

    point: Callable[[], None] = staticmethod(lambda: None)

    def execute(self, *args: Any, **kwargs: Any) -> sqlite3.Cursor:
        if not args[0].lstrip().startswith(("PRAGMA", "ROLLBACK")):  # a rollback needs no room on a disk
            type(self).point()
        return super().execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> sqlite3.Cursor:
        type(self).point()
        return super().executemany(*args, **kwargs)


def _at(n: int, event: Event) -> Callable[[], bool]:
    """At the n-th point (counted from 0), kill this process, or refuse that one as a full disk does; return what says if it was met."""
    seen = [0]

    def point() -> None:
        seen[0] += 1
        if seen[0] == n + 1:
            if event == "kill":
                os._exit(9)
            raise OSError(errno.ENOSPC, "No space left on device")

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            point()
            return call(*args, **kwargs)

        return counted

    def statements(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, factory=_Statements, **kwargs)

    connect, _Statements.point = sqlite3.connect, staticmethod(point)
    database.sqlite3.connect = statements
    whole._exchanged_at_once = before(whole._exchanged_at_once)
    for name in ("replace", "fsync", "mkdir"):
        setattr(os, name, before(getattr(os, name)))
    return lambda: seen[0] > n


def _work(folder: Path, n: int, event: Event, tell: Connection) -> None:
    workspace = Workspace(folder)
    is_met = _at(n, event)
    done: list[tuple[str, Any]] = []

    def tried(kind: str, key: Any, call: Callable[[], object]) -> None:
        try:
            call()
        except (StorageFailed, UnknownName):  # what could not be saved cannot be deleted either
            tell.send(("refused", kind))
        else:
            done.append((kind, key))
            tell.send((kind, key))

    for i in range(3):
        tried("edit", (edit(float(i)).id, f"edit {i}"), lambda i=i: workspace.edits.save(edit(float(i)), f"edit {i}"))
    tried("edit", (edit(0.0).id, "again"), lambda: workspace.edits.save(edit(0.0), "again"))
    tried("set", "typed", lambda: workspace.sets.save(rows("typed", name="typed")))
    tried("run", "first", lambda: workspace.runs.record("fit", "first", inputs={}, arrays={"x": np.arange(4.0)}))
    tried("gone", edit(1.0).id, lambda: workspace.edits.delete(edit(1.0).id))
    tell.send(("end", is_met()))
    os._exit(0)


def forced(folder: Path, n: int, event: Event) -> bool:
    """Do the work in a fresh workspace with an event at point n; whether the work came to its end without meeting the point.

    Raises:
        AssertionError: something acknowledged is lost, something is half readable, or something is left over after the next start.
    """
    first = Workspace(folder)
    first.edits.save(edit(9.0), "before")
    heard, tell = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(folder, n, event, tell))
    process.start()
    tell.close()
    told: list[tuple[str, Any]] = []
    while True:
        try:
            told.append(heard.recv())
        except EOFError:
            break
    process.join(30)
    assert process.exitcode in ((0, 9) if event == "kill" else (0,)), (n, process.exitcode)
    _look(folder, [item for item in told if item[0] not in ("refused", "end")], n, event)
    return ("end", False) in told


def _look(folder: Path, acknowledged: list[tuple[str, Any]], n: int, event: Event) -> None:
    again = Workspace(folder)
    for info in (*again.edits.list(), *again.edits.deleted()):
        if info in again.edits.list():
            assert again.edits.load(info.id).id == info.fit, (n, "an edit in the list cannot be read")
    assert again.edits.load("before").id == edit(9.0).id
    gone = {key for kind, key in acknowledged if kind == "gone"}
    names = dict(key for kind, key in acknowledged if kind == "edit" and key[0] not in gone)
    for key, name in names.items():
        found = [info for info in (*again.edits.list(), *again.edits.deleted()) if info.id == key]
        # A kill may come between a commit and its word; what a disk refused has changed nothing.
        settled = event == "full" or any(kind == "gone" for kind, _ in acknowledged)
        assert found and (found[0].name == name or not settled), (n, key, name)
    assert gone <= {info.id for info in again.edits.deleted()}
    assert {"typed"} >= {key for kind, key in acknowledged if kind == "set"} <= {info.name for info in again.sets.list()}
    for run in again.runs.list():
        assert np.array_equal(again.runs.arrays(run.id)["x"], np.arange(4.0))
    assert {key for kind, key in acknowledged if kind == "run"} <= {run.title for run in again.runs.list()}
    if event == "full":
        assert {info.id for info in again.edits.list()} == {edit(9.0).id, *names}, (n, "a refused edit is there")
        assert len(again.runs.list()) == sum(kind == "run" for kind, _ in acknowledged), (n, "a refused run is there")
        assert len(again.sets.list()) == sum(kind == "set" for kind, _ in acknowledged), (n, "a refused set is there")
    rows_of_edits = {info.id for info in (*again.edits.list(), *again.edits.deleted())}
    assert {path.name for path in (folder / "edits").iterdir()} == rows_of_edits, (n, "left over beside the edits")
    arrays = {path.name for path in (folder / "runs").iterdir()} if (folder / "runs").is_dir() else set[str]()
    assert arrays == {f"{run.id}.npz" for run in again.runs.list()}, (n, "left over beside the runs")
