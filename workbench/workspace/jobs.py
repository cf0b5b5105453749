"""Background jobs: anything over a moment runs in a thread of its own, can be watched and cancelled, and keeps its result.

Each job gets a fresh thread and a fresh context: no edit of another job is in force in it, and torch gives it the number of
threads that the model at hand asked for. Heavy jobs wait for each other by model and by what the cores bear; light ones
(a prompt, a generation) do not wait for heavy ones.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.errors import NotEnoughMemory, RetouchError, Unexpected, UnknownName
from workbench.progress import Cancelled, Progress, Report

State = Literal["queued", "running", "done", "failed", "cancelled"]
Work = Callable[[Progress], Any]
_log = logging.getLogger(__name__)
# A moving picture draws this many reports at most; older ones are thinned by half.
_MAX_HISTORY = 2000


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment.

    `live` holds the last value of everything the work has shown, `history` its reports so far, `best` the best result so
    far where the work has one. `n_ahead` is the number of jobs that have to end first.
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
    n_ahead: int
    error: RetouchError | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class Job:
    """One piece of work; every method may be called from any thread."""

    def __init__(self, work: Work, title: str, owner: str, model: str | None, kind: str, jobs: Jobs) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.title, self.owner, self.model, self.kind = title, owner, model, kind
        self._work, self._jobs = work, jobs
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
        n_ahead = self._jobs.n_ahead(self)
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
                n_ahead=n_ahead,
                error=self._error,
            )

    @property
    def state(self) -> State:
        """Where it stands now."""
        with self._lock:
            return self._state

    def cancel(self) -> None:
        """Take a waiting job off the queue; ask a running one to stop at its next report."""
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
    text = "".join(traceback.format_exception(error))
    _log.error("Report %s: %s\n%s", report_id, doing, text)
    if reports is not None:
        try:
            reports.mkdir(parents=True, exist_ok=True)
            (reports / f"{report_id}.txt").write_text(f"{doing}\n\n{text}", encoding="utf-8")
        except OSError:
            _log.exception("Report %s could not be written", report_id)
    return Unexpected(doing, report_id)


class Jobs:
    """The jobs of one process.

    Args:
        n_heavy: how many heavy jobs run at once, as a number or a function asked at each start; 1 suits models that use
            every core, more suits small ones.
        n_light: how many light jobs run beside them.
        reports: folder for reports of unexpected failures.
        n_kept: how many jobs that are over are kept for their owners to collect.
    """

    def __init__(
        self,
        n_heavy: int | Callable[[], int] = 1,
        n_light: int = 4,
        *,
        reports: Path | None = None,
        n_kept: int = 200,
    ) -> None:
        self._n_heavy, self._n_light, self._n_kept = n_heavy, n_light, n_kept
        self.reports = reports
        self._lock = threading.RLock()
        self._queue: list[Job] = []
        self._running: list[Job] = []
        self._all: dict[str, Job] = {}

    def submit(self, work: Work, *, title: str, owner: str = "", model: str | None = None, kind: str = "") -> Job:
        """Queue some work. `model` names the model that it keeps busy: such a job is heavy, and alone on that model.

        kind: what its result is for, so that nobody takes it for another's.
        """
        job = Job(work, title, owner, model, kind, self)
        with self._lock:
            self._all[job.id] = job
            over = [item for item in self._all.values() if item.wait(0)]
            for old in over[: max(0, len(over) - self._n_kept)]:
                del self._all[old.id]
            self._queue.append(job)
            self._start()
        return job

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            UnknownName: it never was, or has been forgotten.
        """
        with self._lock:
            if job_id not in self._all:
                raise UnknownName("job", job_id, self._all)
            return self._all[job_id]

    def of(self, owner: str) -> tuple[Job, ...]:
        """The jobs of one owner, the oldest first."""
        with self._lock:
            return tuple(job for job in self._all.values() if job.owner == owner)

    def active(self) -> tuple[Job, ...]:
        """Every job that runs or waits, of any owner."""
        with self._lock:
            return (*self._running, *self._queue)

    def n_ahead(self, job: Job) -> int:
        """How many jobs have to end before a waiting one starts; 0 for any other."""
        with self._lock:
            if job not in self._queue:
                return 0
            return sum((other.model is None) == (job.model is None) for other in self._before(job))

    def _before(self, job: Job) -> list[Job]:
        return self._running + self._queue[: self._queue.index(job)]

    def withdraw(self, job: Job) -> bool:
        """Take a job off the queue; return whether it was still there."""
        with self._lock:
            if job not in self._queue:
                return False
            self._queue.remove(job)
            return True

    def cancel_all(self, timeout_s: float = 5.0) -> bool:
        """Cancel everything, as at shutdown; return whether all of it ended in time."""
        jobs, until = self.active(), time.monotonic() + timeout_s
        for job in jobs:
            job.cancel()
        return all(job.wait(max(0.0, until - time.monotonic())) for job in jobs)

    def _start(self) -> None:
        for job in list(self._queue):
            if self._may_run(job):
                self._queue.remove(job)
                self._running.append(job)
                threading.Thread(target=self._thread, args=(job,), name=f"job {job.title}", daemon=True).start()

    def _may_run(self, job: Job) -> bool:
        if job.model is None:
            return sum(other.model is None for other in self._running) < self._n_light
        heavy = [other.model for other in self._running if other.model is not None]
        bound = self._n_heavy if isinstance(self._n_heavy, int) else self._n_heavy()
        return job.model not in heavy and len(heavy) < max(1, bound)

    def _thread(self, job: Job) -> None:
        try:
            # Empty, not a copy: no plan, owner or stop button of the submitting thread comes along.
            contextvars.Context().run(job.run)
        finally:
            with self._lock:
                self._running.remove(job)
                self._start()
