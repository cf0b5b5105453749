"""Every edit within reach: fitted by this process, saved in the workspace, or in a folder of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.edits.base import Edit
from workbench.edits.store import load, save
from workbench.errors import UnknownName
from workbench.methods.registry import FitReport, Fitted
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.reports import report_of

EditLike = Edit | str | Path | tuple["Edit | str | Path", float]
StackLike = EditLike | Sequence[EditLike]
# Fits that were not saved stay at hand until this many newer ones.
_MAX_FITTED = 50


class EditShelf:
    """Edits by id, name or folder."""

    def __init__(self, workspace: Callable[[], Workspace]) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._fitted: dict[str, Fitted] = {}
        self._run_of: dict[str, str] = {}

    def remember(self, fitted: Fitted, run_id: str | None) -> None:
        """Keep a fit of this process at hand, and the run that recorded it."""
        key = fitted.edit.id
        with self._lock:
            self._fitted.pop(key, None)
            self._fitted[key] = fitted
            if run_id is not None:
                self._run_of[key] = run_id
            for old in list(self._fitted)[: max(0, len(self._fitted) - _MAX_FITTED)]:
                del self._fitted[old]

    def fitted(self) -> tuple[Fitted, ...]:
        """The fits of this process that are at hand, the newest first."""
        with self._lock:
            return tuple(reversed(self._fitted.values()))

    def load(self, key: str | Path) -> Edit:
        """An edit by id, name or folder.

        Raises:
            UnknownName: there is none. CorruptEdit, NewerSchema: as `edits.store.load`.
        """
        kept = self._fitted.get(str(key))
        if kept is not None:
            return kept.edit
        if Path(key).is_dir():
            return load(key)
        saved = self._workspace().edits
        known = {name for info in saved.list() for name in (info.id, info.name)}
        if str(key) not in known:
            raise UnknownName("edit or edit folder", str(key), known | set(self._fitted))
        return saved.load(str(key))

    def edit(self, edit: EditLike) -> Edit:
        """The edit that something names, at the dose given with it. Raises: as `load`."""
        if isinstance(edit, tuple):
            return self.edit(edit[0]).scaled(edit[1])
        return edit if isinstance(edit, Edit) else self.load(edit)

    def stack(self, stack: StackLike) -> tuple[Edit, ...]:
        """The edits of one lane. Raises: as `load`."""
        if isinstance(stack, (Edit, str, Path)):
            return (self.edit(stack),)
        parts: list[object] = list(stack)
        if len(parts) == 2 and isinstance(parts[0], (Edit, str, Path)) and isinstance(parts[1], (int, float)):
            return (self.edit(parts[0]).scaled(float(parts[1])),)
        return tuple(self.edit(item) for item in parts)  # pyright: ignore[reportArgumentType]

    def save(self, edit: EditLike, name: str, verdict: str = "") -> EditInfo:
        """Keep an edit in the workspace, with the report of its fit. Raises: StorageFailed."""
        one = self.edit(edit)
        return self._workspace().edits.save(one, name, verdict=verdict, run_id=self._run_of.get(one.id))

    def write(self, edit: EditLike, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write an edit into a folder of its own. Raises: StorageFailed."""
        return save(self.edit(edit), folder, overwrite=overwrite)

    def name(self, key: str) -> str:
        """What to call an edit: its saved name, else its method and the start of its id."""
        for info in self._workspace().edits.list():
            if key in (info.id, info.name):
                return info.name
        return f"{self.load(key).header.method} {key[:4]}"

    def report(self, key: str) -> FitReport | None:
        """The report of an edit's fit, made here or kept with the saved edit; None for an edit brought from elsewhere."""
        one = load(key).id if key not in self._fitted and Path(key).is_dir() else key
        kept = self._fitted.get(one)
        if kept is not None:
            return kept.report
        workspace = self._workspace()
        if one != key and one not in {info.id for info in workspace.edits.list()}:
            return None
        run_id = workspace.edits.info(one).run_id
        if run_id is None:
            return None
        return report_of(workspace.runs.get(run_id), workspace.runs.arrays(run_id))
