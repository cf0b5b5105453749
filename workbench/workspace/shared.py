"""Work that several ask for at the same time, done once: three tabs that load one model wait for the same load."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from workbench.progress import Progress, Report, stoppable

Result = TypeVar("Result")
_LOOKS_EVERY_S = 0.05


@dataclass(eq=False)
class _Once(Generic[Result]):
    """One piece of work and how many wait for it."""

    over: threading.Event = field(default_factory=threading.Event)
    report: Report = field(default_factory=lambda: Report(0.0, "Waiting"))
    progress: Progress = field(default_factory=Progress)
    n_waiting: int = 0
    value: Result | None = None
    error: BaseException | None = None


class Shared(Generic[Result]):
    """Work by key. Each asker sees its progress and may stop waiting; it is stopped when nobody waits any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Once[Result]] = {}

    def run(self, key: Hashable, work: Callable[[Progress], Result], progress: Progress) -> Result:
        """Do the work under this key, or wait for whoever does it already; return its result.

        Raises:
            Cancelled: this asker was asked to stop. Others: as the work, for each who waits.
        """
        with self._lock:
            one = self._running.get(key)
            if one is None:
                one = self._running[key] = self._begin(key, work)
            one.n_waiting += 1
        try:
            while not one.over.wait(_LOOKS_EVERY_S):
                progress(one.report.share, one.report.doing, **one.report.live)
        finally:
            with self._lock:
                one.n_waiting -= 1
                if one.n_waiting == 0 and not one.over.is_set():
                    one.progress.cancel()
                    self._forget(key, one)
        if one.error is not None:
            raise one.error
        return one.value  # pyright: ignore[reportReturnType] - it is set before `over` wherever there was no error

    def _begin(self, key: Hashable, work: Callable[[Progress], Result]) -> _Once[Result]:
        one = _Once[Result]()

        def told(report: Report) -> None:
            one.report = report

        def do() -> None:
            try:
                with stoppable(one.progress):
                    one.value = work(one.progress)
            except BaseException as error:  # each who waits raises it
                one.error = error
            finally:
                with self._lock:
                    self._forget(key, one)
                one.over.set()

        one.progress = Progress(told)
        # An empty context: no plan or stop button of the asker comes along.
        threading.Thread(target=contextvars.Context().run, args=(do,), name=f"shared {key}", daemon=True).start()
        return one

    def _forget(self, key: Hashable, one: _Once[Result]) -> None:
        if self._running.get(key) is one:
            del self._running[key]
