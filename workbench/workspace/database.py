"""One SQLite file in WAL mode. A write is on disk when its context ends without an error, else nothing of it is.

A connection lives for one operation: threads never share one, and a killed process leaves no lock behind.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import NewerSchema, StorageFailed

WORKSPACE_SCHEMA = 5
_FILE = "retouch.sqlite"

# One tuple of statements for each schema version: version n is reached by the first n tuples.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE sets (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, head INTEGER NOT NULL, created REAL NOT NULL,
            updated REAL NOT NULL, is_deleted INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE set_versions (
            set_id TEXT NOT NULL REFERENCES sets (id), version INTEGER NOT NULL, parent INTEGER, rows TEXT NOT NULL,
            n INTEGER NOT NULL, fingerprint TEXT NOT NULL, note TEXT NOT NULL, created REAL NOT NULL,
            PRIMARY KEY (set_id, version))""",
        """CREATE TABLE edits (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, method TEXT NOT NULL, created REAL NOT NULL, verdict TEXT NOT NULL,
            model TEXT NOT NULL, data TEXT NOT NULL, seed INTEGER NOT NULL, run_id TEXT)""",
        """CREATE TABLE runs (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, created REAL NOT NULL, seed INTEGER,
            model TEXT, inputs TEXT NOT NULL, outputs TEXT NOT NULL, metrics TEXT NOT NULL, versions TEXT NOT NULL,
            has_arrays INTEGER NOT NULL)""",
        """CREATE TRIGGER runs_are_immutable BEFORE UPDATE ON runs
            BEGIN SELECT RAISE(ABORT, 'a run is immutable'); END""",
        """CREATE TABLE marks (
            kind TEXT NOT NULL, id TEXT NOT NULL, note TEXT NOT NULL DEFAULT '', is_pinned INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (kind, id))""",
        "CREATE TABLE drafts (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated REAL NOT NULL)",
        "CREATE INDEX runs_by_time ON runs (created)",
    ),
    (
        "ALTER TABLE edits ADD COLUMN fit TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE edits ADD COLUMN dose REAL NOT NULL DEFAULT 1.0",
        "UPDATE edits SET fit = id, dose = saved_dose(id)",
    ),
    (
        # When it was put into the bin; NULL for what is not there. Sets deleted by older versions go in now.
        "ALTER TABLE edits ADD COLUMN deleted REAL",
        "ALTER TABLE sets ADD COLUMN deleted REAL",
        "UPDATE sets SET deleted = CAST(strftime('%s', 'now') AS REAL) WHERE is_deleted",
    ),
    (
        # Rows lie in pieces that versions share; `rows` holds those of older versions, whose `pieces` is NULL.
        "CREATE TABLE pieces (name TEXT PRIMARY KEY, rows TEXT NOT NULL)",
        "ALTER TABLE set_versions ADD COLUMN pieces TEXT",
        "ALTER TABLE set_versions ADD COLUMN roles TEXT NOT NULL DEFAULT '{}'",
        "UPDATE set_versions SET roles = roles_in(rows)",
    ),
    (
        """CREATE TABLE IF NOT EXISTS classes (
            id TEXT PRIMARY KEY, teacher TEXT NOT NULL, lesson TEXT NOT NULL, model TEXT NOT NULL, pages TEXT NOT NULL,
            created REAL NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS learners (
            person TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', class TEXT NOT NULL DEFAULT '', seen REAL NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS progress (
            person TEXT NOT NULL, lesson TEXT NOT NULL, step INTEGER NOT NULL, began REAL NOT NULL, done REAL,
            hints INTEGER NOT NULL DEFAULT 0, wrong INTEGER NOT NULL DEFAULT 0, answer TEXT NOT NULL DEFAULT '',
            saw TEXT NOT NULL DEFAULT '', facts TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (person, lesson, step))""",
    ),
)


class Database:
    """The workspace's file, opened anew for each operation."""

    def __init__(self, folder: Path, timeout_s: float = 5.0) -> None:
        """Create or migrate the file.

        Raises:
            StorageFailed: the folder cannot be made or written, or the file is no database.
            NewerSchema: it was written by a newer version.
        """
        self.folder, self.path, self._timeout_s = folder, folder / _FILE, timeout_s
        with storing(f"The workspace {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        self._migrate()

    def _migrate(self) -> None:
        with self._open() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > WORKSPACE_SCHEMA:
                raise NewerSchema(
                    f"The workspace {self.folder} has schema {version}; this version reads up to {WORKSPACE_SCHEMA}.",
                    "Update Retouch, or name another folder with --workspace.",
                )
            if version == WORKSPACE_SCHEMA:
                return
            db.execute("PRAGMA journal_mode = WAL")
        with self.write() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.create_function("saved_dose", 1, self._saved_dose)
            db.create_function("roles_in", 1, _roles_in)
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {WORKSPACE_SCHEMA}")

    def _saved_dose(self, edit: str) -> float:
        """The dose that the folder of an edit names; a folder that cannot be read says so when it is loaded."""
        try:
            return float(json.loads((self.folder / "edits" / edit / "edit.json").read_text()).get("dose", 1.0))
        except (OSError, ValueError, TypeError, AttributeError):
            return 1.0

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        with storing(f"The workspace {self.folder}"):
            db = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                # FULL: a committed write survives a power cut, as "saved" promises.
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA foreign_keys = ON")
                yield db
            finally:
                db.close()

    @contextmanager
    def read(self) -> Generator[sqlite3.Connection]:
        """One consistent view of the file.

        Raises:
            StorageFailed: it cannot be read.
        """
        with self._open() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def write(self) -> Generator[sqlite3.Connection]:
        """One transaction: all of it is on disk afterwards, or after an error nothing.

        Raises:
            StorageFailed: the disk is full or read-only, or the database is locked.
        """
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                # Also after a BaseException: Streamlit stops scripts so.
                if db.in_transaction:
                    db.execute("ROLLBACK")


def _roles_in(rows: str) -> str:
    """How many of the rows of an older version have each role; none where they cannot be read, which says so when they are."""
    try:
        return json.dumps(Counter(tag for row in json.loads(rows) for tag in row["tags"] if tag.startswith("role:")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "{}"


@contextmanager
def storing(what: str) -> Generator[None]:
    """Say in our words why the disk or the database refused.

    Raises:
        StorageFailed: in place of OSError and sqlite3's errors.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what} refuses: {error.strerror or error}.", _hint(str(error))) from error
    except sqlite3.Error as error:
        raise StorageFailed(f"{what} refuses: {error}.", _hint(str(error))) from error


def _hint(reason: str) -> str:
    reason = reason.lower()
    if "locked" in reason or "busy" in reason:
        return "Another program holds it: close it, then try again. Nothing was changed."
    if "full" in reason or "no space" in reason or "quota" in reason:
        return "Free some space, then try again. Nothing was changed."
    if "not a database" in reason or "malformed" in reason:
        return f"The file {_FILE} is damaged: move it away or restore a copy."
    return "Name a folder you may write to with --workspace or RETOUCH_HOME."
