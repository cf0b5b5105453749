"""One piece of work in the background: watched and cancelled from any thread, and never a traceback."""

from __future__ import annotations

import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from workbench.errors import NotEnoughMemory, RetouchError, Unexpected, spelled_out
from workbench.progress import Cancelled, Progress, Report, stoppable
from workbench.workspace.people import acting_as

State = Literal["queued", "running", "done", "failed", "cancelled"]
Work = Callable[[Progress], Any]
_log = logging.getLogger(__name__)
# A moving picture draws this many reports at most; older ones are thinned by half.
_MAX_HISTORY = 2000
# Before this share of the work is done, its speed tells nothing about its end: a fit begins with reading.
_TELLING_SHARE = 0.1


@runtime_checkable
class Waitlist(Protocol):
    """What a job asks of the queue that it is in."""

    reports: Path | None

    def before(self, job: Job) -> Before:
        """What has to end before a waiting job starts."""
        ...

    def withdraw(self, job: Job) -> bool:
        """Take a job off the queue; return whether it was still there."""
        ...

    def is_left(self, job: Job) -> bool:
        """Whether nobody has looked at a job for so long that it stops."""
        ...


@dataclass(frozen=True)
class Before:
    """What a waiting job waits for: how many jobs, and about how many seconds; None where nobody can tell."""

    n: int = 0
    s: float | None = 0.0


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment.

    `live` holds the last value of everything the work has shown, `history` its reports so far, `best` the best result so
    far where the work has one. `before` is what has to end first; `is_kept`: it goes on when its tab is closed.
    """

    id: str
    owner: str
    title: str
    state: State
    share: float
    doing: str
    live: Mapping[str, object]
    history: tuple[Report, ...]
    best: object
    elapsed_s: float
    is_cancelling: bool
    before: Before
    is_kept: bool
    error: RetouchError | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class Job:
    """One piece of work; every method may be called from any thread."""

    def __init__(self, work: Work, title: str, owner: str, model: str | None, kind: str, jobs: Waitlist) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.title, self.owner, self.model, self.kind = title, owner, model, kind
        self._work, self._jobs = work, jobs
        self.tabs: set[str] = set()
        self.seen = time.monotonic()
        self.asked = time.time()
        self.is_kept = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._progress = Progress(self._told)
        self._state: State = "queued"
        self._share, self._doing = 0.0, "Waiting"
        self._live: dict[str, object] = {}
        self._history: list[Report] = []
        self._result: object = None
        self._best: object = None
        self._error: RetouchError | None = None
        self._began: float | None = None
        self._ended: float | None = None

    def snapshot(self) -> Snapshot:
        """What the job is doing now."""
        self._jobs.is_left(self)  # whoever looks has not left, though the work may say nothing for long
        before = self._jobs.before(self)
        with self._lock:
            end = self._ended or time.monotonic()
            return Snapshot(
                id=self.id,
                owner=self.owner,
                title=self.title,
                state=self._state,
                share=self._share,
                doing=self._doing,
                live=dict(self._live),
                history=tuple(self._history),
                best=self._best if self._best is not None else self._live.get("best"),
                elapsed_s=0.0 if self._began is None else end - self._began,
                is_cancelling=self._progress.cancelled and self._state == "running",
                before=before,
                is_kept=self.is_kept,
                error=self._error,
            )

    @property
    def state(self) -> State:
        """Where it stands now."""
        with self._lock:
            return self._state

    @property
    def elapsed_s(self) -> float:
        """Seconds that it has run."""
        with self._lock:
            return 0.0 if self._began is None else (self._ended or time.monotonic()) - self._began

    @property
    def left_s(self) -> float | None:
        """Seconds that a running job still takes if it goes on as it did; None while it is too early to say."""
        with self._lock:
            if self._began is None or self._share < _TELLING_SHARE:
                return None
            return (time.monotonic() - self._began) * (1 - self._share) / self._share

    def follow(self, tab: str) -> None:
        """Note a tab that shows it: as long as one of them is open, it goes on."""
        self.tabs.add(tab)
        self.seen = time.monotonic()

    def keep(self) -> None:
        """Let it go on when its tabs are closed."""
        self.is_kept = True

    def cancel(self) -> None:
        """Take a waiting job off the queue; ask a running one to stop where it is."""
        self._progress.cancel()
        if self._jobs.withdraw(self):
            self._end("cancelled")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the job is over; return whether it is."""
        return self._over.wait(timeout_s)

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the result.

        Raises:
            Cancelled: it was cancelled; `best` holds what it had. RetouchError: it failed. TimeoutError: not over yet.
        """
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"{self.title} is still {self.state}.")
        if self._state == "cancelled":
            raise Cancelled(self._best)
        if self._error is not None:
            raise self._error
        return self._result

    def _told(self, report: Report) -> None:
        if self._jobs.is_left(self):
            self._progress.cancel()
        with self._lock:
            self._share, self._doing = report.share, report.doing
            self._live.update(report.live)
            self._history.append(report)
            if len(self._history) > _MAX_HISTORY:
                self._history = self._history[::2]

    def run(self) -> None:
        """Do the work in this thread, and keep whatever comes of it. Called by `Jobs` alone."""
        with self._lock:
            self._state, self._began = "running", time.monotonic()
        try:
            with stoppable(self._progress), acting_as(self.owner):
                result = self._work(self._progress)
        except Cancelled as cancelled:
            self._end("cancelled", best=cancelled.best)
        except RetouchError as error:
            self._end("failed", error=error)
        except BaseException as error:  # a thread has nobody above it; the page has to hear of it
            self._end("failed", error=named_failure(error, self.title, self._jobs.reports))
        else:
            self._end("done", result=result)

    def _end(self, state: State, *, result: object = None, best: object = None, error: RetouchError | None = None) -> None:
        with self._lock:
            self._state, self._result, self._error, self._ended = state, result, error, time.monotonic()
            self._best = best
            self._began = self._began or self._ended
            self._share = 1.0 if state == "done" else self._share
            self._doing = {"done": "Done", "cancelled": "Cancelled"}.get(state, self._doing)
        self._over.set()


def named_failure(error: BaseException, doing: str, reports: Path | None) -> RetouchError:
    """Out of memory in our words; anything else under a report's number, the traceback in a file and not on the page.

    Args:
        reports: folder for the report; None writes it to the log alone.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return NotEnoughMemory(f"{doing} ran out of memory.", "Use fewer demonstrations, a smaller batch or model.")
    report_id = uuid.uuid4().hex[:8]
    text = spelled_out(f"{doing}\n\n{''.join(traceback.format_exception(error))}")
    _log.error("Report %s: %s", report_id, text)
    if reports is not None:
        try:
            reports.mkdir(parents=True, exist_ok=True)
            (reports / f"{report_id}.txt").write_text(text, encoding="utf-8")
        except OSError:
            _log.exception("Report %s could not be written", report_id)
    return Unexpected(doing, report_id)
