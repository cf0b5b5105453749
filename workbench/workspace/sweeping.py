"""What a workspace throws away when it is opened: what killed processes left behind, and what has lain in the bin long enough."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

from workbench.errors import StorageFailed
from workbench.whole import tidy
from workbench.workspace import pieces
from workbench.workspace.database import Database

BIN_DAYS = 30.0
DESIGN_DRAFTS = "design-"
"""How names of drafts begin that hold the trials of design searches: kept as long as what is in the bin."""


def clean(database: Database, now: float | None = None) -> None:
    """Remove unfinished files, edits and arrays without a row, what was deleted over `BIN_DAYS` ago, and trials of searches as old.

    now: Unix seconds, the clock's where none are given. A workspace that refuses is left for the next start: nothing in it is in the way.
    """
    latest = (time.time() if now is None else now) - BIN_DAYS * 86_400
    for kind in ("edits", "runs"):
        tidy(database.folder / kind)
    try:
        with database.read() as db:
            if not (_expired(db, latest) or _orphans(db, database.folder)):
                return
        with database.write() as db:
            if _expired(db, latest):
                db.execute("DELETE FROM marks WHERE kind = 'edit' AND id IN (SELECT id FROM edits WHERE deleted <= ?)", (latest,))
                db.execute("DELETE FROM edits WHERE deleted <= ?", (latest,))
                db.execute("DELETE FROM set_versions WHERE set_id IN (SELECT id FROM sets WHERE deleted <= ?)", (latest,))
                db.execute("DELETE FROM sets WHERE deleted <= ?", (latest,))
                db.execute("DELETE FROM drafts WHERE key LIKE ? AND updated <= ?", (f"{DESIGN_DRAFTS}%", latest))
                pieces.drop_unused(db)
            # Within the transaction: who saves names its files in one too, so that none of them is about to get its row.
            for path in _orphans(db, database.folder):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    except StorageFailed:
        return


def _expired(db: sqlite3.Connection, latest: float) -> bool:
    found = db.execute(
        "SELECT EXISTS (SELECT 1 FROM edits WHERE deleted <= ?) OR EXISTS (SELECT 1 FROM sets WHERE deleted <= ?) "
        "OR EXISTS (SELECT 1 FROM drafts WHERE key LIKE ? AND updated <= ?)",
        (latest, latest, f"{DESIGN_DRAFTS}%", latest),
    )
    return bool(found.fetchone()[0])


def _orphans(db: sqlite3.Connection, folder: Path) -> list[Path]:
    """Folders of edits and arrays of runs that no row names."""
    edits = {row["id"] for row in db.execute("SELECT id FROM edits")}
    runs = {f"{row['id']}.npz" for row in db.execute("SELECT id FROM runs WHERE has_arrays")}
    return [
        path
        for kind, known in (("edits", edits), ("runs", runs))
        if (folder / kind).is_dir()
        for path in (folder / kind).iterdir()
        if path.name not in known and not path.name.startswith(".")
    ]
