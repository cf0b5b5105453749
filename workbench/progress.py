"""Progress of long work, and the one way to cancel it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised inside work whose owner asked it to stop.

    `best` holds the best result so far where the work has one (a search, an adversarial fit), else None.
    """

    def __init__(self, best: object = None) -> None:
        super().__init__("Cancelled.")
        self.best = best


@contextmanager
def part_of_more() -> Generator[None]:
    """Within it, work that is cancelled hands nothing on: the best that a part had is no result of the whole."""
    try:
        yield
    except Cancelled:
        raise Cancelled() from None


@dataclass(frozen=True)
class Report:
    """A moment of some work: `share` done in [0, 1], what is being done, and live values for the picture."""

    share: float
    doing: str
    live: Mapping[str, object] = field(default_factory=lambda: _NOTHING)


class Progress:
    """Tell an owner how far some work is; raise `Cancelled` when the owner asked for it.

    Work calls `progress(share, "doing …", key=value)` at least every few hundred milliseconds; values passed by keyword are for the
    moving picture of the method (a spectrum, a trajectory). `share` never goes backwards.
    """

    def __init__(self, tell: Callable[[Report], None] | None = None) -> None:
        self._tell = tell
        self._stop = threading.Event()
        self._share = 0.0
        self.started = time.monotonic()

    def __call__(self, share: float, doing: str, **live: object) -> None:
        self.stop_if_asked()
        self._share = max(self._share, min(1.0, share))
        if self._tell is not None:
            self._tell(Report(self._share, doing, live))

    def cancel(self) -> None:
        """Ask the work to stop: at its next call, or, within `stoppable`, wherever it next asks."""
        self._stop.set()

    def stop_if_asked(self) -> None:
        """Raise `Cancelled` if the owner asked to stop."""
        if self._stop.is_set():
            raise Cancelled()

    @property
    def cancelled(self) -> bool:
        """Whether the owner asked to stop."""
        return self._stop.is_set()

    def part(self, start: float, end: float) -> Progress:
        """Return progress for a stage that covers `start`..`end` of this one; cancelling either cancels both."""
        return _Part(self, start, end)


class _Part(Progress):
    def __init__(self, whole: Progress, start: float, end: float) -> None:
        super().__init__()
        self._whole, self._start, self._end = whole, start, end
        self._stop = whole._stop  # pyright: ignore[reportPrivateUsage]

    def __call__(self, share: float, doing: str, **live: object) -> None:
        self._whole(self._start + (self._end - self._start) * min(1.0, share), doing, **live)


_asked: ContextVar[Progress | None] = ContextVar("asked", default=None)


@contextmanager
def stoppable(progress: Progress) -> Generator[None]:
    """Within this context, `stop_if_asked` anywhere below stops the work that reports to `progress`."""
    token = _asked.set(progress)
    try:
        yield
    finally:
        _asked.reset(token)


def asked_progress() -> Progress | None:
    """The progress whose owner may stop this context; None where nobody may."""
    return _asked.get()


def stop_if_asked() -> None:
    """Raise `Cancelled` if the owner of this context asked it to stop: for what takes long between two reports.

    A model asks before every block, forwards and backwards; loops without a model (a discriminator, a surrogate) ask themselves.
    """
    found = _asked.get()
    if found is not None:
        found.stop_if_asked()


def silent() -> Progress:
    """Return progress that tells nobody."""
    return Progress()
