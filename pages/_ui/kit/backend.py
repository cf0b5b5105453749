"""The one process-wide thing: sessions by model name, opened in the background, so that pages answer while torch imports.

Nothing here imports torch when it is imported. `open_session` is looked up on this module at each use, so that a test
can put a tiny model in its place.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit.asked_model import AskedModel, shown
from pages._ui.kit.person import is_open, tab
from pages._ui.kit.state import FIRST, LOAD, models_in_use, state, turn_to
from pages._ui.kit.words import count, listed
from workbench.errors import Busy, NotEnoughMemory, RetouchError
from workbench.progress import Progress
from workbench.resources import home
from workbench.workspace.job import Job, Work
from workbench.workspace.jobs import Jobs
from workbench.workspace.people import acting
from workbench.workspace.share import share
from workbench.workspace.shared import Shared

if TYPE_CHECKING:
    from workbench.methods.shared.needs import Obstacle
    from workbench.session import Session
    from workbench.workspace.home import Workspace

# Beyond this many, models that no open tab is on leave.
MAX_OPEN = 3


def open_session(model: str, workspace: Workspace | None = None, *, progress: Progress | None = None, **options: Any) -> Session:
    """Open a session; the import is the slow part, and happens in the caller's thread."""
    from workbench.opening import open_session as opened

    return opened(model=model, workspace=workspace, progress=progress, **options)


def imports(tell: Callable[[str], None]) -> None:
    """Import what is slow, and say what."""
    tell("importing torch…")
    importlib.import_module("torch")
    tell("importing TransformerLens…")
    importlib.import_module("workbench.session")


@dataclass
class Backend:
    """Sessions by the key of their model, and how far the first one is.

    `stage` is a sentence for people; `seconds` is how long each model took to load.
    """

    stage: str = "starting…"
    error: Exception | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    ready_after_s: float | None = None
    jobs: Jobs = field(default_factory=lambda: Jobs(is_open=is_open, share=share(), reports=home() / "reports"))
    asked: dict[str, Any] = field(default_factory=dict)
    obstacles: dict[tuple[str, str], dict[str, tuple[Obstacle, ...]]] = field(default_factory=dict)
    loads: Shared[Session] = field(default_factory=Shared)
    fetches: Shared[Path] = field(default_factory=Shared)
    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None

    @property
    def is_booting(self) -> bool:
        return FIRST not in self.sessions and self.error is None

    def boot(self) -> None:
        """Open the first session in a daemon thread, once; again after a failure."""
        with self.lock:
            if self.thread is None or (self.error is not None and not self.thread.is_alive()):
                self.error, self.started = None, time.monotonic()
                self.thread = threading.Thread(target=self._boot, name="retouch-boot", daemon=True)
                self.thread.start()

    def _boot(self) -> None:
        try:
            imports(self._say)
            self._say("loading the embedded model…")
            self.open(FIRST)
            self.ready_after_s = time.monotonic() - self.started
            self._say("ready")
        except Exception as error:  # every page shows it, with a button to try again
            self.error = error
            self._say("failed")

    def _say(self, stage: str) -> None:
        self.stage = stage

    def open(self, model: str, progress: Progress | None = None) -> Session:
        """Open a session on a model, by its key, or return the one that is open. Who asks while it is loaded waits for the same load.

        Raises:
            Cancelled: this asker was asked to stop. Busy: the person has as many models open as one may have. Others: as `catalog.load`.
        """
        with self.lock:
            if model in self.sessions:
                return self.sessions[model]
        most, theirs = share().n_models, models_in_use(acting()) - {FIRST, model}
        if most is not None and acting() and len(theirs) >= most:
            names = listed([shown(other) for other in sorted(theirs)])
            raise Busy(f"You have {names} open already; one person may have {count(most, 'model')} beside the embedded one here.",
                       "Turn to the embedded model in the tabs that have another, then load this one.")  # fmt: skip
        return self.loads.run(model, lambda own: self._load(AskedModel.of(model), own), progress or Progress())

    def _load(self, asked: AskedModel, progress: Progress) -> Session:
        began = time.monotonic()
        try:
            opened = self._opened(asked, progress)
        except NotEnoughMemory:
            if not self._leave(self._idle(asked.key)):
                raise
            opened = self._opened(asked, progress)
        with self.lock:
            self.sessions[asked.key] = opened
            self.seconds[asked.key] = time.monotonic() - began
        self._leave(self._idle(asked.key)[: max(0, len(self.sessions) - MAX_OPEN)])
        return opened

    def _opened(self, asked: AskedModel, progress: Progress) -> Session:
        with self.lock:
            other = next(iter(self.sessions.values()), None)
        workspace, shared = (None, {}) if other is None else (other.workspace, {"shelf": other.shelf})
        return open_session(asked.name, workspace, progress=progress, **shared, **asked.options)

    def _idle(self, model: str) -> list[str]:
        """The open models that no tab is on and that are not this one, the oldest first."""
        with self.lock:
            return [key for key in self.sessions if key not in (FIRST, model, *models_in_use())]

    def _leave(self, models: list[str]) -> bool:
        """Let models go; return whether any went. Their fits stay on the shelf that all share."""
        with self.lock:
            for key in models:
                self.sessions.pop(key, None)
        gc.collect()
        return bool(models)

    def wait(self, model: str, progress: Progress) -> Session:
        """Return the session of a model inside a job, after the start if need be.

        Raises:
            Cancelled: the owner asked to stop. Exception: the start failed.
        """
        while self.is_booting:
            progress(0.0, self.stage)
            time.sleep(0.1)
        if self.error is not None:
            raise self.error
        return self.open(model, progress.part(0.0, 0.1))

    def devices(self) -> list[str]:
        """Where a model can be; the processor alone while torch is not there yet (half imported, it has no `cuda`)."""
        if self.is_booting or "torch" not in sys.modules:
            return ["cpu"]
        from workbench.models.devices import devices_here

        return [*devices_here()]

    def submit(
        self, work: Work, title: str, settings: object, *, slot: str, busy: str | None = None, instead: Job | None = None
    ) -> Job:  # fmt: skip
        """Queue a job of this tab for a place on a page; its settings are kept beside it for a reload. Raises: as `Jobs.submit`."""
        job = self.jobs.submit(work, title=title, owner=state().owner, model=busy, kind=slot, tab=tab(), instead=instead)
        with self.lock:
            self.asked[job.id] = settings
            for old in list(self.asked)[: max(0, len(self.asked) - 400)]:
                del self.asked[old]
        return job


@st.cache_resource(show_spinner=False)
def backend() -> Backend:
    """The process's backend."""
    return Backend()


def boot() -> None:
    """Start opening the embedded model if nobody has."""
    one = backend()
    if one.thread is None:
        one.boot()


def session() -> Session | None:
    """The session of this tab's model; None while it is not open."""
    return backend().sessions.get(state().model)


def workspace_problem() -> RetouchError | None:
    """What keeps this tab's workspace from being opened; None while nothing is known of it."""
    try:
        if (found := session()) is not None:
            found.workspace  # noqa: B018 - it is opened when it is first asked for
    except RetouchError as error:
        return error
    return None


def ready() -> Session | None:
    """The session of this tab's model; without one, draw why and return None.

    A page begins with `if (session := ready()) is not None: …`.
    """
    one = backend()
    if (found := session()) is not None:
        return found
    if one.error is not None:
        from pages._ui.kit.frame import problem

        problem(one.error, "boot")
        st.button("Try again", on_click=one.boot, key="boot-again")
    elif one.is_booting:
        _wait()
    else:  # a model that was open once and has left, or is named by a URL
        _offer_again()
    return None


@st.fragment(run_every=0.5)
def _wait() -> None:
    one = backend()
    if not one.is_booting:
        st.rerun()
    with st.container(border=True, key="empty-boot"):
        st.text(f"Starting: {one.stage}")
        st.progress(min(0.95, (time.monotonic() - one.started) / 12))
        st.caption("The first start takes some seconds: torch is large. The page is here already; nothing you do now is lost.")


def _offer_again() -> None:
    """What a page shows whose model is not in memory: the way to load it, and the way to the first one."""
    from pages._ui.kit.frame import empty, problem
    from pages._ui.kit.words import plain

    model, tab = state().model, state().tab
    why = "A model leaves when others need its memory, and none is loaded because a link names it."
    with empty(f"This tab is on **{plain(shown(model))}**, which is not loaded.", why, key="again"):
        if LOAD in tab.slots:
            st.caption("It is being loaded; the bar at the side shows how far it is.")
            return
        with st.container(horizontal=True):
            st.button(f"Load {shown(model)}", key="again-load", type="primary", on_click=_load_again, args=(AskedModel.of(model),))
            st.button("Use the embedded model", key="again-first", on_click=turn_to, args=(FIRST,))
        error = tab.failed.get(LOAD)
        if error is not None:
            problem(error, "again")


def _load_again(asked: AskedModel) -> None:
    one, tab = backend(), state().tab

    def work(progress: Progress) -> str:
        one.open(asked.key, progress)
        return asked.key

    tab.slots[LOAD] = one.submit(work, f"Loading {asked.name}", asked, slot=LOAD).id
    tab.failed.pop(LOAD, None)
