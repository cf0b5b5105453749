"""The one process-wide thing: sessions by model name, opened in the background, so that pages answer while torch imports.

Nothing here imports torch when it is imported. `open_session` is looked up on this module at each use, so that a test
can put a tiny model in its place.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit.state import state
from workbench.progress import Progress
from workbench.workspace.jobs import Job, Jobs, Work

if TYPE_CHECKING:
    from workbench.methods.registry import Obstacle
    from workbench.session import Session
    from workbench.workspace.home import Workspace

FIRST = "embedded"
# The embedded models are small; a large one leaves when the next large one comes.
MAX_OPEN = 3


def open_session(model: str, workspace: Workspace | None = None, *, progress: Progress | None = None, **options: Any) -> Session:
    """Open a session; the import is the slow part, and happens in the caller's thread."""
    from workbench.session import open_session as opened

    return opened(model=model, workspace=workspace, progress=progress, **options)


def imports(tell: Callable[[str], None]) -> None:
    """Import what is slow, and say what."""
    tell("importing torch…")
    importlib.import_module("torch")
    tell("importing TransformerLens…")
    importlib.import_module("workbench.session")


@dataclass
class Backend:
    """Sessions by model name, and how far the first one is. `stage` is a sentence for people."""

    stage: str = "starting…"
    error: Exception | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    ready_after_s: float | None = None
    jobs: Jobs = field(default_factory=Jobs)
    asked: dict[str, Any] = field(default_factory=dict)
    obstacles: dict[tuple[str, str], dict[str, tuple[Obstacle, ...]]] = field(default_factory=dict)
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

    def open(self, model: str, progress: Progress | None = None, **options: Any) -> Session:
        """Open a session for a model, or return the one that is open; all share one workspace."""
        with self.lock:
            if model in self.sessions and not options:
                return self.sessions[model]
            workspace = next((opened.workspace for opened in self.sessions.values()), None)
        opened = open_session(model, workspace, progress=progress, **options)
        with self.lock:
            self.sessions[model] = opened
            others = [name for name in self.sessions if name not in (FIRST, model)]
            for name in others[: max(0, len(self.sessions) - MAX_OPEN)]:
                del self.sessions[name]
        return opened

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
        torch = None if self.is_booting else sys.modules.get("torch")
        return ["cpu", *(["cuda"] if torch is not None and torch.cuda.is_available() else [])]

    def submit(self, work: Work, title: str, settings: object, *, busy: str | None = None) -> Job:
        """Queue a job of this tab; its settings are kept beside it, so that a reload finds them."""
        job = self.jobs.submit(work, title=title, owner=state().owner, model=busy)
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
        state().model = FIRST
        st.rerun()
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
