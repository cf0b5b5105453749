"""Demonstration sets that keep every version: saving never overwrites, undo and redo move along the lineage."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.conversations import read_prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadDemonstrations, BadPrompt, ChangedMeanwhile, UnknownName
from workbench.workspace import pieces
from workbench.workspace.database import Database
from workbench.workspace.recent import Recent


@dataclass(frozen=True)
class SetInfo:
    """A set as a list shows it. `version` is the one that is current; times are Unix seconds; `roles` counts the rows of each role."""

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
    roles: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class SetVersion:
    """One version of a set, what made it, and from which version."""

    version: int
    parent: int | None
    n: int
    note: str
    created: float
    is_current: bool


# A version never changes, so what was read last need not be read again: pages ask for it at every rerun.
_ROWS_IN_MEMORY = 300_000
_COLUMNS = "set_id, version, parent, pieces, n, fingerprint, note, created, roles"
_LIST = """
    SELECT sets.id, name, head AS version, n, fingerprint, note, sets.created, updated, parent IS NOT NULL AS can_undo, roles,
        EXISTS (SELECT 1 FROM set_versions AS later WHERE later.set_id = sets.id AND later.parent = head) AS can_redo
    FROM sets JOIN set_versions ON set_versions.set_id = sets.id AND set_versions.version = head
"""


class DemonstrationSets:
    """Sets of one workspace, by id or name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent = Recent[tuple[str, int, str], Demonstrations](_ROWS_IN_MEMORY, len)

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
            return self._get(db, info, info.version if version is None else version)

    def _get(self, db: sqlite3.Connection, info: SetInfo, version: int) -> Demonstrations:
        return self._recent.get((info.id, version, info.name), lambda: Demonstrations(_read(db, info, version), info.name))

    def save(
        self,
        demonstrations: Demonstrations,
        *,
        key: str | None = None,
        onto: int | None = None,
        note: str = "",
        taken: Collection[str] = (),
    ) -> SetInfo:
        """Write a new version of the set `key`, or a new set under the demonstrations' name; equal rows make none.

        Args:
            onto: the version that these rows were made from; None takes whichever is current.
            taken: names that a new set may not have; it gets a number then, as where another set has its name.

        Raises:
            ChangedMeanwhile: the current version is another than `onto`; the rows were kept as a set of their own.
            StorageFailed: nothing was written, and the set is as it was.
        """
        with self._database.write() as db:
            info = None if key is None else _one(db, key)
            if info is None or info.fingerprint != demonstrations.fingerprint:
                if info is None or onto in (None, info.version):
                    return self._put(db, demonstrations, info, note, taken)
                kept = self._put(db, demonstrations, None, f"made from version {onto} of {info.name}", taken)
            else:
                return info
        raise ChangedMeanwhile(
            f"{info.name!r} is at version {info.version} by now, through another tab or program; these rows were made from version {onto}. "
            f"Both are kept: these as {kept.name!r}.",
            f"Take what you need from one into the other, then delete the one you do not want. {info.name!r} is as the other left it.",
            kept.id,
        )

    def change(self, key: str, how: Callable[[Demonstrations], Demonstrations], *, note: str = "") -> SetInfo:
        """Write what `how` makes of the current rows as a new version; nobody else changes the set in between.

        Raises: as `get` and `save`.
        """
        with self._database.write() as db:
            info = _one(db, key)
            changed = how(self._get(db, info, info.version))
            return info if changed.fingerprint == info.fingerprint else self._put(db, changed, info, note)

    def _put(self, db: sqlite3.Connection, rows: Demonstrations, info: SetInfo | None, note: str, taken: Collection[str] = ()) -> SetInfo:
        now = time.time()
        if info is None:
            set_id, parent = uuid.uuid4().hex[:12], None
            new = (set_id, _free_name(db, rows.name, taken), now, now)
            db.execute("INSERT INTO sets (id, name, head, created, updated) VALUES (?, ?, 0, ?, ?)", new)
        else:
            set_id, parent = info.id, info.version
        (last,) = db.execute("SELECT MAX(version) FROM set_versions WHERE set_id = ?", (set_id,)).fetchone()
        version = (last or 0) + 1
        values = (set_id, version, parent, pieces.keep_pieces(db, rows), len(rows), rows.fingerprint, note, now, pieces.roles_in(rows))
        db.execute(f"INSERT INTO set_versions ({_COLUMNS}, rows) VALUES ({', '.join('?' * len(values))}, '')", values)
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

    def fingerprints(self, key: str) -> frozenset[str]:
        """Those of all versions of a set. Raises: UnknownName."""
        with self._database.read() as db:
            found = db.execute("SELECT fingerprint FROM set_versions WHERE set_id = ?", (_one(db, key).id,)).fetchall()
        return frozenset(row["fingerprint"] for row in found)

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
    values["roles"] = json.loads(values["roles"])
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


def _read(db: sqlite3.Connection, info: SetInfo, version: int) -> tuple[Demonstration, ...]:
    row = db.execute("SELECT rows, pieces FROM set_versions WHERE set_id = ? AND version = ?", (info.id, version)).fetchone()
    if row is None:
        known = db.execute("SELECT version FROM set_versions WHERE set_id = ?", (info.id,)).fetchall()
        raise UnknownName("version", str(version), [str(item["version"]) for item in known])
    try:
        return _older(row["rows"]) if row["pieces"] is None else pieces.read_pieces(db, row["pieces"])
    except (ValueError, KeyError, TypeError, AttributeError, BadPrompt) as error:
        what = f"The rows of the set {info.name!r}, version {version}, are damaged: {error}."
        raise BadDemonstrations(what, "Go back to an earlier version, or import the set again.") from error


def _older(text: str) -> tuple[Demonstration, ...]:
    """Rows as versions before schema 4 hold them: one list."""
    values: list[dict[str, Any]] = json.loads(text)
    for value in values:
        value |= {"tags": tuple(value["tags"]), "prompt": read_prompt(value["prompt"])}
    return tuple(Demonstration(**value) for value in values)
