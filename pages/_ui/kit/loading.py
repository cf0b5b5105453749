"""Loading a model from any page: begin it, and turn to it once it is there."""

from __future__ import annotations

from pages._ui.kit import jobs
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.backend import backend, session
from pages._ui.kit.state import LOAD, state, turn_to
from workbench.progress import Progress
from workbench.resources import models_of
from workbench.workspace.last_used import note_use

# The model that is being loaded; the result is its key.
LOADING: jobs.Slot[AskedModel, str] = jobs.Slot(LOAD, of_tab=True)


def load(asked: AskedModel, *, get: bool = False) -> None:
    """Begin to load a model, however many tabs ask for it; `get`: fetch it first if it is a recommended one that is not there yet."""
    one = backend()

    def work(progress: Progress) -> str:
        if get:
            fetch(asked.name, progress.part(0.0, 0.7))
        opened = one.open(asked.key, progress.part(0.7 if get else 0.0, 1.0))
        note_use(opened.workspace, asked.name, asked.dtype, asked.device)
        return asked.key

    jobs.drop(LOADING)
    jobs.begin(LOADING, f"Loading {asked.name}", work, asked)


def fetch(name: str, progress: Progress) -> None:
    """Fetch a recommended model into the workspace. Raises: as `fetching.fetch`."""
    from workbench.models.catalog import fetch_recommended

    backend().fetches.run(name, lambda own: fetch_recommended(name, progress=own), progress)


def is_fetched(name: str) -> bool:
    """Whether a model lies in the workspace."""
    return (models_of() / name / "config.json").is_file()


def take_model() -> bool:
    """Turn to the model that was loaded, wherever the person is by then, and return whether there was one.

    Call it before the page is drawn, and after: a load that ends while the page is drawn would else wait for the person's next click.
    """
    key = jobs.result(LOADING)
    if key is None:
        return False
    jobs.drop(LOADING)
    turn_to(key)
    return True


def progress_panel() -> None:
    """The load that runs, or why the last one failed: said here, unless the page has no model and says it in the place of what it lacks."""
    if session() is None and LOAD in state().tab.failed:
        return
    jobs.panel(LOADING, lambda _: None)
