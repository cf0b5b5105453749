"""Demonstration sets that keep every version: saving never overwrites, undo and redo move along the lineage."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from workbench.conversations import read_prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadDemonstrations, BadPrompt, UnknownName
from workbench.workspace.database import Database


@dataclass(frozen=True)
class SetInfo:
    """A set as a list shows it. `version` is the one that is current; times are Unix seconds."""

    id: str
    name: str
    version: int
    n: int
    fingerprint: str
    note: str
    created: float
    updated: float
    can_undo: bool
    can_redo: bool


@dataclass(frozen=True)
class SetVersion:
    """One version of a set, what made it, and from which version."""

    version: int
    parent: int | None
    n: int
    note: str
    created: float
    is_current: bool


_LIST = """
    SELECT sets.id, name, head AS version, n, fingerprint, note, sets.created, updated, parent IS NOT NULL AS can_undo,
        EXISTS (SELECT 1 FROM set_versions AS later WHERE later.set_id = sets.id AND later.parent = head) AS can_redo
    FROM sets JOIN set_versions ON set_versions.set_id = sets.id AND set_versions.version = head
"""


class DemonstrationSets:
    """Sets of one workspace, by id or name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[SetInfo, ...]:
        """Every set, the last changed first."""
        with self._database.read() as db:
            return tuple(_info(row) for row in db.execute(f"{_LIST} WHERE NOT is_deleted ORDER BY updated DESC"))

    def info(self, key: str) -> SetInfo:
        """One set by id or name.

        Raises:
            UnknownName: there is none.
        """
        with self._database.read() as db:
            return _one(db, key)

    def get(self, key: str, version: int | None = None) -> Demonstrations:
        """The rows of a set, as they are now or as they were in some version.

        Raises:
            UnknownName: no such set or version. BadDemonstrations: its rows are damaged.
        """
        with self._database.read() as db:
            info = _one(db, key)
            asked = (info.id, info.version if version is None else version)
            row = db.execute("SELECT rows FROM set_versions WHERE set_id = ? AND version = ?", asked).fetchone()
            if row is None:
                known = db.execute("SELECT version FROM set_versions WHERE set_id = ?", (info.id,)).fetchall()
                raise UnknownName("version", str(version), [str(item["version"]) for item in known])
        try:
            return Demonstrations(_rows(row["rows"]), info.name)
        except (ValueError, KeyError, TypeError, BadPrompt) as error:
            what = f"The rows of the set {info.name!r}, version {asked[1]}, are damaged: {error}."
            raise BadDemonstrations(what, "Go back to an earlier version, or import the set again.") from error

    def save(self, demonstrations: Demonstrations, *, key: str | None = None, note: str = "", taken: Collection[str] = ()) -> SetInfo:
        """Write a new version of the set `key`, or a new set under the demonstrations' name; equal rows make none.

        A name that another set has, or that is in `taken`, gets a number.

        Raises:
            StorageFailed: nothing was written, and the set is as it was.
        """
        now = time.time()
        with self._database.write() as db:
            if key is None:
                set_id, parent = uuid.uuid4().hex[:12], None
                name = _free_name(db, demonstrations.name, taken)
                db.execute(
                    "INSERT INTO sets (id, name, head, created, updated) VALUES (?, ?, 0, ?, ?)",
                    (set_id, name, now, now),
                )
            else:
                info = _one(db, key)
                if info.fingerprint == demonstrations.fingerprint:
                    return info
                set_id, parent = info.id, info.version
            (last,) = db.execute("SELECT MAX(version) FROM set_versions WHERE set_id = ?", (set_id,)).fetchone()
            version = (last or 0) + 1
            values = (
                set_id,
                version,
                parent,
                _text(demonstrations),
                len(demonstrations),
                demonstrations.fingerprint,
                note,
                now,
            )
            db.execute("INSERT INTO set_versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            _move(db, set_id, version, now)
            return _one(db, set_id)

    def undo(self, key: str) -> SetInfo:
        """Go back to the version that the current one was made from; at the first one, stay."""
        return self._step(key, "SELECT parent FROM set_versions WHERE set_id = ? AND version = ?")

    def redo(self, key: str) -> SetInfo:
        """Go to the latest version made from the current one; if there is none, stay."""
        return self._step(key, "SELECT MAX(version) FROM set_versions WHERE set_id = ? AND parent = ?")

    def _step(self, key: str, asking: str) -> SetInfo:
        """Go to the version that a query about the current one gives; where it gives none, stay."""
        with self._database.write() as db:
            info = _one(db, key)
            (version,) = db.execute(asking, (info.id, info.version)).fetchone()
            if version is not None:
                _move(db, info.id, version, time.time())
            return _one(db, info.id)

    def go_to(self, key: str, version: int) -> SetInfo:
        """Make any version the current one.

        Raises:
            UnknownName: no such set or version.
        """
        self.get(key, version)
        with self._database.write() as db:
            info = _one(db, key)
            _move(db, info.id, version, time.time())
            return _one(db, info.id)

    def history(self, key: str) -> tuple[SetVersion, ...]:
        """Every version of a set, first to last, with what made it."""
        with self._database.read() as db:
            info = _one(db, key)
            found = db.execute("SELECT * FROM set_versions WHERE set_id = ? ORDER BY version", (info.id,)).fetchall()
        return tuple(
            SetVersion(row["version"], row["parent"], row["n"], row["note"], row["created"], row["version"] == info.version)
            for row in found
        )

    def rename(self, key: str, name: str, taken: Collection[str] = ()) -> SetInfo:
        """Give a set another name; one that another set has, or that is in `taken`, gets a number."""
        with self._database.write() as db:
            info = _one(db, key)
            if name != info.name:
                db.execute("UPDATE sets SET name = ?, updated = ? WHERE id = ?", (_free_name(db, name, taken), time.time(), info.id))
            return _one(db, info.id)

    def delete(self, key: str) -> SetInfo:
        """Put a set into the bin; `restore` takes it out."""
        with self._database.write() as db:
            found = _one(db, key)
            db.execute("UPDATE sets SET is_deleted = 1, deleted = ? WHERE id = ?", (time.time(), found.id))
            return found

    def deleted(self) -> tuple[SetInfo, ...]:
        """What lies in the bin, the last deleted first; it goes for good after `sweeping.BIN_DAYS`."""
        with self._database.read() as db:
            return tuple(_info(row) for row in db.execute(f"{_LIST} WHERE is_deleted ORDER BY deleted DESC"))

    def restore(self, set_id: str, taken: Collection[str] = ()) -> SetInfo:
        """Take a set out of the bin; a name that another set has by now, or that is in `taken`, gets a number.

        Raises:
            UnknownName: it is not there.
        """
        with self._database.write() as db:
            row = db.execute("SELECT name FROM sets WHERE is_deleted AND id = ?", (set_id,)).fetchone()
            if row is None:
                raise UnknownName("deleted set", set_id, [item["id"] for item in db.execute("SELECT id FROM sets WHERE is_deleted")])
            name = _free_name(db, row["name"], taken)
            db.execute("UPDATE sets SET is_deleted = 0, deleted = NULL, name = ? WHERE id = ?", (name, set_id))
            return _one(db, set_id)


def _info(row: sqlite3.Row) -> SetInfo:
    values: dict[str, Any] = dict(row)
    for name in ("can_undo", "can_redo"):
        values[name] = bool(values[name])
    return SetInfo(**values)


def _one(db: sqlite3.Connection, key: str) -> SetInfo:
    row = db.execute(f"{_LIST} WHERE NOT is_deleted AND (sets.id = ? OR name = ?)", (key, key)).fetchone()
    if row is None:
        known = [item["name"] for item in db.execute("SELECT name FROM sets WHERE NOT is_deleted")]
        raise UnknownName("demonstration set", key, known)
    return _info(row)


def _move(db: sqlite3.Connection, set_id: str, version: int, now: float) -> None:
    db.execute("UPDATE sets SET head = ?, updated = ? WHERE id = ?", (version, now, set_id))


def _free_name(db: sqlite3.Connection, name: str, reserved: Collection[str]) -> str:
    taken = {row["name"] for row in db.execute("SELECT name FROM sets WHERE NOT is_deleted")} | set(reserved)
    wanted, number = name.strip() or "untitled", 1
    while (tried := wanted if number == 1 else f"{wanted} {number}") in taken:
        number += 1
    return tried


def _rows(text: str) -> tuple[Demonstration, ...]:
    values: list[dict[str, Any]] = json.loads(text)
    for value in values:
        value |= {"tags": tuple(value["tags"]), "prompt": read_prompt(value["prompt"])}
    return tuple(Demonstration(**value) for value in values)


def _text(demonstrations: Demonstrations) -> str:
    # Not the layout of files: a text that is empty for now is something that somebody is typing.
    return json.dumps([row.values() for row in demonstrations])
