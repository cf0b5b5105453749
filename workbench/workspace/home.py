"""The workspace: what must outlive a browser tab, under one folder."""

from __future__ import annotations

import json
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.resources import home
from workbench.workspace.database import Database
from workbench.workspace.learning import Learning
from workbench.workspace.plain import plain
from workbench.workspace.runs import Runs
from workbench.workspace.sets import DemonstrationSets
from workbench.workspace.sweeping import BIN_DAYS, clean

if TYPE_CHECKING:
    from workbench.workspace.edits import SavedEdits


class Workspace:
    """Demonstration sets, edits, runs, notes, drafts and the progress of learners of one folder; safe to use from any number of threads."""

    bin_days = BIN_DAYS
    """How long what was deleted can be put back."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """Open or create the folder: the argument, else RETOUCH_HOME, else ~/.retouch.

        Raises:
            StorageFailed: it cannot be written. NewerSchema: a newer version wrote it.
        """
        self.folder = home(folder)
        self._database = Database(self.folder)
        self.sets = DemonstrationSets(self._database)
        self.runs = Runs(self._database)
        self.learning = Learning(self._database)
        clean(self._database)

    @cached_property
    def edits(self) -> SavedEdits:
        """The saved edits. Imported here, since they need torch and demonstrations do not."""
        from workbench.workspace.edits import SavedEdits

        return SavedEdits(self._database)

    @property
    def reports(self) -> Path:
        """Where reports of unexpected failures go."""
        return self.folder / "reports"

    def note(self, kind: Literal["edit", "run"], key: str, text: str) -> None:
        """Write a note beside an edit or run."""
        self._mark(kind, key, "note", text)

    def pin(self, kind: Literal["edit", "run"], key: str, is_pinned: bool = True) -> None:
        """Keep an edit or run on top of its list."""
        self._mark(kind, key, "is_pinned", int(is_pinned))

    def star(self, mark: str, is_starred: bool = True) -> None:
        """Star what a demonstration says (the second of its `marks`): it is starred in every set and version that holds it."""
        with self._database.write() as db:
            asked = "INSERT OR REPLACE INTO marks (kind, id, is_pinned) VALUES ('row', ?, 1)" if is_starred else (
                "DELETE FROM marks WHERE kind = 'row' AND id = ?"
            )  # fmt: skip
            db.execute(asked, (mark,))

    def starred(self) -> frozenset[str]:
        """The marks of demonstrations that are starred."""
        with self._database.read() as db:
            return frozenset(row["id"] for row in db.execute("SELECT id FROM marks WHERE kind = 'row'"))

    def _mark(self, kind: Literal["edit", "run"], key: str, column: str, value: object) -> None:
        item_id = self.edits.info(key).id if kind == "edit" else self.runs.get(key).id
        with self._database.write() as db:
            db.execute(
                f"INSERT INTO marks (kind, id, {column}) VALUES (?, ?, ?) "
                f"ON CONFLICT (kind, id) DO UPDATE SET {column} = excluded.{column}",
                (kind, item_id, value),
            )

    def keep_draft(self, key: str, value: Any) -> None:
        """Put what somebody typed on disk, before it has become a set, an edit or a run."""
        values = (key, json.dumps(plain(value), ensure_ascii=False), time.time())
        with self._database.write() as db:
            db.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?)", values)

    def draft(self, key: str, default: Any = None) -> Any:
        """What was last typed under a key."""
        with self._database.read() as db:
            row = db.execute("SELECT value FROM drafts WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def drop_draft(self, key: str) -> None:
        """Forget a draft."""
        with self._database.write() as db:
            db.execute("DELETE FROM drafts WHERE key = ?", (key,))
