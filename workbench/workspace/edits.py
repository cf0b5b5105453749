"""Saved edits: a folder each, and a row that says what it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.edits.base import Edit
from workbench.edits.store import load_edit, save
from workbench.errors import UnknownName
from workbench.models.base import Fingerprint
from workbench.whole import put, room_beside
from workbench.workspace.database import Database, storing


@dataclass(frozen=True)
class EditInfo:
    """A saved edit as a list shows it: the `fit` at a `dose`. `verdict` is one line on its effect; `run_id` leads to the report of its fit.

    `id` is the fit's for an edit at dose 1, and one of its own for each other dose: two doses of one fit are two saved edits.
    """

    id: str
    name: str
    method: str
    created: float
    verdict: str
    model: Fingerprint
    data: str
    seed: int
    run_id: str | None
    fit: str
    dose: float
    note: str
    is_pinned: bool


_LIST = """
    SELECT edits.id, name, method, created, verdict, model, data, seed, run_id, fit, dose,
        COALESCE(note, '') AS note, COALESCE(is_pinned, 0) AS is_pinned
    FROM edits LEFT JOIN marks ON marks.kind = 'edit' AND marks.id = edits.id
"""


class SavedEdits:
    """Edits of one workspace, by id or name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.folder / "edits"

    def folder(self, key: str) -> Path:
        """Where an edit's files are."""
        return self._folder / self.info(key).id

    def list(self) -> tuple[EditInfo, ...]:
        """Every edit, pinned ones first, then the newest first."""
        with self._database.read() as db:
            return tuple(_info(row) for row in db.execute(f"{_LIST} WHERE deleted IS NULL ORDER BY is_pinned DESC, created DESC"))

    def deleted(self) -> tuple[EditInfo, ...]:
        """What lies in the bin, the last deleted first; it goes for good after `sweeping.BIN_DAYS`."""
        with self._database.read() as db:
            return tuple(_info(row) for row in db.execute(f"{_LIST} WHERE deleted IS NOT NULL ORDER BY deleted DESC"))

    def known(self) -> set[str]:
        """Everything that an edit is found by: ids, names, ids of fits."""
        with self._database.read() as db:
            return {key for row in db.execute("SELECT id, name, fit FROM edits WHERE deleted IS NULL") for key in row}

    def info(self, key: str) -> EditInfo:
        """One edit by id, by name or by the id of its fit; of several the newest.

        Raises:
            UnknownName: there is none.
        """
        with self._database.read() as db:
            return _one(db, key)

    def save(self, edit: Edit, name: str, *, verdict: str = "", run_id: str | None = None) -> EditInfo:
        """Write an edit's folder, then its row; saving the same edit at the same dose again renames it.

        Raises:
            StorageFailed: neither was written.
        """
        key = self._id(edit)
        target = self._folder / key
        head = edit.header
        values = (
            key,
            name,
            head.method,
            time.time(),
            verdict,
            json.dumps(head.model.as_json()),
            head.data,
            head.seed,
            run_id,
            edit.id,
            edit.dose,
        )
        with storing(f"The folder {self._folder}"), room_beside(target) as room:
            draft = save(edit, room / key)
            was_there = target.exists()
            # Named and noted in one transaction: `sweeping.clean`, which takes one too, never meets a folder whose row is still to come.
            try:
                with self._database.write() as db:
                    put(draft, target)
                    db.execute(
                        """INSERT INTO edits (id, name, method, created, verdict, model, data, seed, run_id, fit, dose)
                        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
                        name = excluded.name, verdict = excluded.verdict, model = excluded.model,
                        run_id = COALESCE(excluded.run_id, run_id), deleted = NULL""",
                        values,
                    )
                    found = _one(db, key)
            except BaseException:
                if not was_there:
                    shutil.rmtree(target, ignore_errors=True)
                raise
        return found

    def _id(self, edit: Edit) -> str:
        # Older versions gave an edit the id of its fit at whatever dose it had.
        kept = {info.dose for info in (*self.list(), *self.deleted()) if info.id == edit.id}
        if edit.dose in (kept or {1.0}):
            return edit.id
        return hashlib.sha256(f"{edit.id} at dose {edit.dose!r}".encode()).hexdigest()[:12]

    def load(self, key: str) -> Edit:
        """Read an edit from its folder.

        Raises:
            UnknownName: there is none. Others: as `edits.store.load_edit`.
        """
        return load_edit(self.folder(key))

    def rename(self, key: str, name: str) -> EditInfo:
        """Give an edit another name."""
        with self._database.write() as db:
            edit_id = _one(db, key).id
            db.execute("UPDATE edits SET name = ? WHERE id = ?", (name, edit_id))
            return _one(db, edit_id)

    def delete(self, key: str) -> EditInfo:
        """Put an edit into the bin; `restore` takes it out. The runs that used it stay."""
        with self._database.write() as db:
            found = _one(db, key)
            db.execute("UPDATE edits SET deleted = ? WHERE id = ?", (time.time(), found.id))
            return found

    def restore(self, edit_id: str) -> EditInfo:
        """Take an edit out of the bin.

        Raises:
            UnknownName: it is not there.
        """
        with self._database.write() as db:
            if not db.execute("UPDATE edits SET deleted = NULL WHERE id = ? AND deleted IS NOT NULL", (edit_id,)).rowcount:
                raise UnknownName(
                    "deleted edit", edit_id, [row["id"] for row in db.execute("SELECT id FROM edits WHERE deleted IS NOT NULL")]
                )
            return _one(db, edit_id)


def _info(row: sqlite3.Row) -> EditInfo:
    values: dict[str, Any] = dict(row)
    values["model"] = Fingerprint(**json.loads(values["model"]))
    values["is_pinned"] = bool(values["is_pinned"])
    return EditInfo(**values)


def _one(db: sqlite3.Connection, key: str) -> EditInfo:
    order = "edits.id = :key DESC, name = :key DESC, created DESC"
    row = db.execute(f"{_LIST} WHERE deleted IS NULL AND :key IN (edits.id, name, fit) ORDER BY {order}", {"key": key}).fetchone()
    if row is None:
        raise UnknownName("saved edit", key, [item["name"] for item in db.execute("SELECT name FROM edits WHERE deleted IS NULL")])
    return _info(row)
