"""An edit's story: what it is, where it came from, and every run on record that measured it or let it speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from workbench.edits.base import Edit
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.runs import Run

_N = 1000


@final
@dataclass(frozen=True)
class EditStory:
    """An edit at its dose under the name it has now; `info` is None for one that is not saved.

    `made` is the run of its fit, None for an edit brought from elsewhere; `measured` and `compared` are runs, the newest first.
    """

    edit: Edit
    name: str
    info: EditInfo | None
    made: Run | None
    measured: tuple[Run, ...]
    compared: tuple[Run, ...]

    @property
    def demonstrations(self) -> str:
        """The name of the set that it was fitted on; empty where that is not on record."""
        return "" if self.made is None else str(self.made.inputs.get("demonstrations", ""))


def edit_story(shelf: EditShelf, workspace: Workspace, key: str) -> EditStory:
    """Everything on record of an edit, by id, name or the id of its fit.

    Runs tell edits by their fit, so all doses of a fit have the same runs; a run that measured several lanes is about its first.

    Raises:
        UnknownName: there is no such edit. Others: as `EditShelf.load`.
    """
    edit = shelf.load(key)
    saved = workspace.edits.list()
    info = next((item for item in saved if key in (item.id, item.name)), None) or next(
        (item for item in saved if item.fit == edit.id), None
    )
    runs = sorted(workspace.runs.list(limit=_N), key=lambda run: -run.created)
    made = next((run for run in runs if run.kind == "fit" and run.outputs.get("edit") == edit.id), None)
    if made is None and info is not None and info.run_id is not None:  # somebody else's fit, whose edit is there for all
        made = workspace.runs.get(info.run_id)
    measured = tuple(run for run in runs if run.kind == "evaluate" and [edit.id] == list(_edits(run))[:1] and _is_alone(run))
    compared = tuple(run for run in runs if run.kind == "compare" and edit.id in _edits(run))
    return EditStory(edit, info.name if info else shelf.name(key), info, made, measured, compared)


def _edits(run: Run) -> Iterator[str]:
    """The fits behind a run's lanes, in their order."""
    for lane in run.inputs.get("lanes", ()):
        for part in lane:
            if "edit" in part:
                yield str(part["edit"])


def _is_alone(run: Run) -> bool:
    """Whether a run's first lane is one edit and says nothing before prompts."""
    first: list[Any] = next(iter(run.inputs.get("lanes", ())), [])
    return len(first) == 1
