"""Runs: immutable records of what was done, with what, and what came out; arrays lie beside the database as npz."""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import StorageFailed, UnknownName
from workbench.whole import put, room_beside
from workbench.workspace.database import Database, storing
from workbench.workspace.people import acting
from workbench.workspace.plain import plain

_PACKAGES = ("torch", "transformers", "transformer-lens", "numpy")


@dataclass(frozen=True)
class Run:
    """One record. `inputs` restore the controls that made it; `metrics` are numbers with their units in the names."""

    id: str
    kind: str
    title: str
    created: float
    seed: int | None
    model: str | None
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, str]
    has_arrays: bool
    note: str
    is_pinned: bool


_LIST = """
    SELECT runs.*, COALESCE(note, '') AS note, COALESCE(is_pinned, 0) AS is_pinned
    FROM runs LEFT JOIN marks ON marks.kind = 'run' AND marks.id = runs.id
"""


# Whoever works for nobody in particular, as the command line does, sees all.
_OWN = "(? = '' OR COALESCE(CASE WHEN json_valid(inputs) THEN json_extract(inputs, '$.person') END, ?) = ?)"


class Runs:
    """Runs of one workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.folder / "runs"

    def record(
        self,
        kind: str,
        title: str,
        *,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        seed: int | None = None,
        model: str | None = None,
    ) -> Run:
        """Write a record, its arrays first, so that no row names arrays that are not there.

        Raises:
            StorageFailed: nothing was written.
        """
        run_id = uuid.uuid4().hex[:12]
        inputs = {**inputs, "person": acting()} if acting() else inputs
        texts = [json.dumps(plain(item or {}), ensure_ascii=False) for item in (inputs, outputs, metrics, _versions())]
        values = (run_id, kind, title, time.time(), seed, model, *texts, bool(arrays))
        path = self._path(run_id)
        with storing(f"The folder {self._folder}"), room_beside(path) as room:
            draft = room / path.name
            if arrays:
                named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
                np.savez_compressed(draft, **named)
            # Named and noted in one transaction: `sweeping.clean`, which takes one too, never meets arrays whose row is still to come.
            try:
                with self._database.write() as db:
                    if arrays:
                        put(draft, path)
                    db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                    found = _one(db, run_id)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return found

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.npz"

    def list(self, kind: str | None = None, limit: int = 100) -> tuple[Run, ...]:
        """Runs, pinned ones first, then the newest first; for a person at a page their own, and those of nobody in particular."""
        with self._database.read() as db:
            found = db.execute(
                f"{_LIST} WHERE (? IS NULL OR runs.kind = ?) AND {_OWN} ORDER BY is_pinned DESC, created DESC LIMIT ?",
                (kind, kind, acting(), acting(), acting(), limit),
            )
            return tuple(_run(row) for row in found)

    def n_opened(self, data: Collection[str]) -> int:
        """How many runs scored an edit on the test rows of a set that had one of these fingerprints; as `list`, a person's own."""
        with self._database.read() as db:
            asked = f"""SELECT COUNT(*) FROM runs WHERE kind IN ('evaluate', 'sweep', 'equal damage') AND {_OWN} AND json_valid(inputs)
                AND COALESCE(json_extract(inputs, '$.split'), 'test') = 'test'
                AND json_extract(inputs, '$.data') IN (SELECT value FROM json_each(?))"""
            (n,) = db.execute(asked, (acting(), acting(), acting(), json.dumps(list(data)))).fetchone()
        return n

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            UnknownName: there is none.
        """
        with self._database.read() as db:
            return _one(db, run_id)

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays of a run.

        Raises:
            StorageFailed: their file is missing or damaged.
        """
        if not self.get(run_id).has_arrays:
            return {}
        try:
            with np.load(self._path(run_id), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            message = f"The arrays of run {run_id} cannot be read: {error}."
            raise StorageFailed(message, "Restore the workspace's runs folder from a copy, or run it again.") from error

    def delete(self, run_id: str) -> None:
        """Remove a run and its arrays."""
        self.get(run_id)
        with self._database.write() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            db.execute("DELETE FROM marks WHERE kind = 'run' AND id = ?", (run_id,))
        self._path(run_id).unlink(missing_ok=True)


def _one(db: sqlite3.Connection, run_id: str) -> Run:
    row = db.execute(f"{_LIST} WHERE runs.id = ?", (run_id,)).fetchone()
    if row is None:
        known = db.execute("SELECT id FROM runs ORDER BY created DESC LIMIT 40").fetchall()
        raise UnknownName("run", run_id, [item["id"] for item in known])
    return _run(row)


def _run(row: sqlite3.Row) -> Run:
    values: dict[str, Any] = dict(row)
    for name in ("inputs", "outputs", "metrics", "versions"):
        values[name] = json.loads(values[name])
    for name in ("has_arrays", "is_pinned"):
        values[name] = bool(values[name])
    return Run(**values)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
