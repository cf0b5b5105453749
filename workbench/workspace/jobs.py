"""The background jobs of a process: anything over a moment runs in a thread of its own, is watched and cancelled, and keeps its result.

Each job gets a fresh thread and a fresh context: no edit of another job is in force in it, and torch gives it the number of
threads that the model at hand asked for. Heavy jobs queue by their model, and models by what the cores bear; light ones (a prompt, a
generation) do not wait for heavy ones. Within a queue people take turns: nobody's second job starts before anybody's first.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workbench.errors import Busy, UnknownName
from workbench.workspace.job import Before, Job, Work
from workbench.workspace.share import Share

ALL = Share()

GONE_S = 120.0
"""Seconds after which a job stops whose tabs are all closed; a reload, or a lid that was shut for a moment, takes less."""


def cores() -> int:
    """How many heavy jobs of different models run at once: one a core, and two where there is one, so that no model waits for another."""
    return max(2, os.cpu_count() or 1)


class Jobs:
    """The jobs of one process.

    Args:
        n_heavy: how many heavy jobs run at once, as a number or a function asked at each start.
        n_light: how many light jobs run beside them.
        reports: folder for reports of unexpected failures.
        n_kept: how many jobs that are over and that nobody has collected are kept; one is let go once every open tab has it (`taken`).
        is_open: whether a tab is open, by the name it follows jobs under.
        gone_s: seconds after which a job stops that no open tab follows any more, unless it is kept.
        share: what one person may have running and waiting.
    """

    def __init__(
        self,
        n_heavy: int | Callable[[], int] = cores,
        n_light: int = 8,
        *,
        reports: Path | None = None,
        n_kept: int = 200,
        is_open: Callable[[str], bool] = lambda tab: True,
        gone_s: float = GONE_S,
        share: Share = ALL,
    ) -> None:
        self._n_heavy, self._n_light, self._n_kept = n_heavy, n_light, n_kept
        self._is_open, self._gone_s, self._share = is_open, gone_s, share
        self.reports = reports
        self._lock = threading.RLock()
        self._queue: list[Job] = []
        self._running: list[Job] = []
        self._all: dict[str, Job] = {}
        self._turns: dict[tuple[str, bool], int] = {}
        self._took: dict[tuple[str, str | None], float] = {}

    def submit(
        self, work: Work, *, title: str, owner: str = "", model: str | None = None, kind: str = "", tab: str | None = None,
        instead: Job | None = None,
    ) -> Job:  # fmt: skip
        """Queue some work. `model` names the model that it keeps busy: such a job is heavy, and alone on that model.

        Args:
            owner: the person whose job it is.
            kind: what its result is for, so that nobody takes it for another's.
            tab: the tab that follows it; a job without one goes on whoever is there.
            instead: a job that is cancelled for it, but only once this one is admitted; it counts no more among those that wait.

        Raises:
            Busy: the owner has as many heavy jobs waiting as one person may have.
        """
        job = Job(work, title, owner, model, kind, self)
        if tab is not None:
            job.follow(tab)
        with self._lock:
            self._admit(job, instead)
            if instead is not None:
                instead.cancel()
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
                # No list of those that are there: they are other people's.
                raise UnknownName("job", job_id, ())
            return self._all[job_id]

    def of(self, owner: str) -> tuple[Job, ...]:
        """The jobs of one owner, the oldest first."""
        with self._lock:
            return tuple(job for job in self._all.values() if job.owner == owner)

    def active(self) -> tuple[Job, ...]:
        """Every job that runs or waits, of any owner."""
        with self._lock:
            return (*self._running, *self._queue)

    def taken(self, job: Job, tab: str) -> None:
        """Note that a tab has what a job gave; once no open tab follows it, the job and its result are let go."""
        with self._lock:
            job.tabs.discard(tab)
            if job.wait(0) and not any(map(self._is_open, tuple(job.tabs))):
                self._all.pop(job.id, None)

    def before(self, job: Job) -> Before:
        """What has to end before a waiting job starts: those before it on its model, and its owner's own where these have their share; else
        those that keep the cores busy."""
        with self._lock:
            if job not in self._queue:
                return Before()
            order = in_turn(self._queue, self._turns)
            ahead = [*self._running, *order[: order.index(job)]]
            is_heavy, is_full = job.model is not None, self._has_share(job)
            waited = [other for other in ahead if is_heavy and other.model == job.model or is_full and _turn(other) == _turn(job)]
            at_once = 1
            if not waited:
                waited = [other for other in ahead if (other.model is not None) == is_heavy]
                at_once = self._bound() if is_heavy else self._n_light
            left = [self._left(other) for other in waited]
        known = [seconds for seconds in left if seconds is not None]
        return Before(len(left), sum(known) / at_once if len(known) == len(left) else None)

    def _left(self, job: Job) -> float | None:
        usual = self._took.get((job.title, job.model))
        found = job.left_s
        return found if found is not None or usual is None else max(0.0, usual - job.elapsed_s)

    def is_left(self, job: Job) -> bool:
        """Whether no open tab has followed a job for so long that it stops, unless it is kept."""
        if not job.tabs or job.is_kept or any(self._is_open(tab) for tab in tuple(job.tabs)):
            job.seen = time.monotonic()
        return time.monotonic() - job.seen > self._gone_s

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
        for job in [job for job in self._queue if self.is_left(job)]:
            job.cancel()
        for job in in_turn(self._queue, self._turns):
            if self._may_run(job):
                self._queue.remove(job)
                self._running.append(job)
                self._turns[_turn(job)] = max(self._turns.values(), default=0) + 1
                threading.Thread(target=self._thread, args=(job,), name=f"job {job.title}", daemon=True).start()

    def _admit(self, job: Job, instead: Job | None) -> None:
        waiting = sum(other.owner == job.owner and other.model is not None and other is not instead for other in self._queue)
        if job.model is not None and self._share.n_waiting is not None and waiting >= self._share.n_waiting:
            raise Busy(
                f"{waiting} of your fits and measurements wait already; one person may have {self._share.n_waiting} waiting here.",
                "Wait for one of them, or cancel one in the bar at the side.",
            )

    def _may_run(self, job: Job) -> bool:
        if self._has_share(job):
            return False
        if job.model is None:
            return sum(other.model is None for other in self._running) < self._n_light
        heavy = [other.model for other in self._running if other.model is not None]
        return job.model not in heavy and len(heavy) < self._bound()

    def _has_share(self, job: Job) -> bool:
        """Whether the owner has as many such jobs running as one person may have."""
        mine = sum(_turn(other) == _turn(job) for other in self._running)
        return self._share.n_running is not None and mine >= self._share.n_running * (1 if job.model is not None else 2)

    def _bound(self) -> int:
        return max(1, self._n_heavy if isinstance(self._n_heavy, int) else self._n_heavy())

    def _thread(self, job: Job) -> None:
        try:
            # Empty, not a copy: no plan, owner or stop button of the submitting thread comes along.
            contextvars.Context().run(job.run)
        finally:
            with self._lock:
                self._running.remove(job)
                if job.state == "done" and job.model is not None:
                    self._took[job.title, job.model] = job.elapsed_s
                self._start()


def in_turn(waiting: Sequence[Job], turns: Mapping[tuple[str, bool], int]) -> list[Job]:
    """Waiting jobs in the order in which they start: each time that of whoever had a turn longest ago; first come settles ties alone.

    Args:
        turns: when a job of each person was started last, in any unit.
    """
    left, last, order = list(waiting), dict(turns), list[Job]()
    now = max(last.values(), default=0)
    while left:
        job = min(left, key=lambda item: last.get(_turn(item), 0))
        left.remove(job)
        order.append(job)
        last[_turn(job)] = now = now + 1
    return order


def _turn(job: Job) -> tuple[str, bool]:
    """A person's turns at heavy jobs and at light ones count apart: who asks many prompts loses no turn to fit."""
    return job.owner, job.model is None
