"""An edit's story: what it is, where it came from, and every run on record that measured it or let it speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final

from workbench.edits.base import Edit
from workbench.errors import Obstructed
from workbench.methods.registry import FitReport, Fitted
from workbench.methods.shared.gating import gated
from workbench.models.base import LanguageModel
from workbench.progress import Progress
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.rendering import as_read
from workbench.workspace.runs import Run
from workbench.workspace.shelf import Shelf

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


def edit_story(shelf: EditShelf, workspace: Workspace, key: str, dose: float | None = None) -> EditStory:
    """Everything on record of an edit, by id, name or the id of its fit.

    Runs tell edits by their fit, so all doses of a fit have the same runs; a run that measured several lanes is about its first.

    Args:
        dose: of a fit that is asked for by its id, the dose that it is looked at; a saved edit has its own.

    Raises:
        UnknownName: there is no such edit. Others: as `EditShelf.load`; BadDose.
    """
    edit, saved = shelf.load(key), workspace.edits.list()
    info = next((item for item in saved if key in (item.id, item.name)), None)
    if info is not None:
        edit = edit.dosed(info.dose)
    elif dose is not None:
        edit = edit.dosed(dose)
    info = info or next((item for item in saved if (item.fit, item.dose) == (edit.id, edit.dose)), None)
    runs = sorted(workspace.runs.list(limit=_N), key=lambda run: -run.created)
    made = next((run for run in runs if run.kind == "fit" and run.outputs.get("edit") == edit.id), None)
    if made is None and info is not None and info.run_id is not None:  # somebody else's fit, whose edit is there for all
        made = workspace.runs.get(info.run_id)
    measured = tuple(run for run in runs if run.kind == "evaluate" and _first(run) == [edit.id])
    compared = tuple(run for run in runs if run.kind == "compare" and edit.id in _edits(run))
    return EditStory(edit, info.name if info else shelf.name(key), info, made, measured, compared)


def _edits(run: Run) -> Iterator[str]:
    """The fits behind a run's lanes, in their order."""
    for lane in run.inputs.get("lanes", ()):
        for part in lane:
            if "edit" in part:
                yield str(part["edit"])


def _first(run: Run) -> list[str | None]:
    """The fits of a run's first lane; None stands for what it says before prompts."""
    first: list[Any] = next(iter(run.inputs.get("lanes", ())), [])
    return [part.get("edit") for part in first]


def source_of(story: EditStory, demos: Shelf) -> str:
    """The id of the set that holds the rows of an edit's fit, as they were.

    Raises:
        Obstructed: the set is not on record, not here any more, or was changed since: what is fitted or measured on other rows is no
            statement about this fit.
    """
    name, head = story.demonstrations, story.edit.header
    named = [offer.id for offer in demos.list() if name in (offer.id, offer.title)]
    if not named:
        what = f"The set of its fit, {name}, is not here" if name else "The set of its fit is not on record"
        raise Obstructed(f"{what}, so nothing can be tried or measured on its rows.", "Bring the set to Demonstrations under that name.")
    found = next((key for key in named if demos.get(key).is_data_of(head.data, head.system)), "")
    if not found:
        raise Obstructed(
            f"The set of its fit, {name}, was changed since, so nothing can be tried or measured on its rows.",
            "Go back to that version on Demonstrations, or fit again.",
        )
    return found


def gated_as_fitted(
    model: LanguageModel, shelf: EditShelf, workspace: Workspace, demos: Shelf, key: str, progress: Progress | None = None
) -> str:
    """Fit a probe at each site of an edit, on the rows of its fit, that decides token by token whether it acts; keep the gated edit at hand
    and return its id.

    Raises:
        Obstructed: the rows are not here as they were (`source_of`). Others: as `gating.gated`.
    """
    story = edit_story(shelf, workspace, key)
    rows = as_read(model, demos.resolve(source_of(story, demos)), bool(story.edit.header.rendered) or None, "", [story.edit])
    fitted = gated(model, Fitted(story.edit.dosed(1.0), FitReport()), rows, seed=story.edit.header.seed, progress=progress)
    edit = replace(fitted.edit, called=f"{story.name}, gated")
    shelf.remember(replace(fitted, edit=edit), None)
    return edit.id
