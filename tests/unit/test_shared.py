"""Work that several ask for at once is done once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench.progress import Cancelled, Progress
from workbench.workspace.shared import Shared


class Work:
    """Work that goes on until it is let go; it counts how often it was begun and how often it was stopped."""

    def __init__(self) -> None:
        self.begun, self.stopped, self.gate = 0, 0, threading.Event()

    def __call__(self, progress: Progress) -> object:
        self.begun += 1
        try:
            while not self.gate.wait(0.01):
                progress(0.4, "Reading")
        except Cancelled:
            self.stopped += 1
            raise
        return object()


def until(condition: object, limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not condition():  # pyright: ignore
        assert time.monotonic() < end
        time.sleep(0.01)


def test_three_who_ask_at_once_share_one_piece_of_work_and_another_key_does_not() -> None:
    shared, work, other = Shared[object](), Work(), Work()
    told: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        three = [pool.submit(shared.run, "m", work, Progress(lambda report: told.append(report.doing))) for _ in range(3)]
        fourth = pool.submit(shared.run, "n", other, Progress())
        until(lambda: "Reading" in told and other.begun)
        work.gate.set()
        other.gate.set()
        found = [item.result(10) for item in three]
        assert found[0] is found[1] is found[2] and fourth.result(10) is not found[0]
    assert work.begun == other.begun == 1


def test_one_who_stops_waiting_leaves_the_others_theirs_and_the_last_stops_the_work() -> None:
    shared, work = Shared[object](), Work()
    one, two = Progress(), Progress()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.run, "m", work, one)
        until(lambda: work.begun)
        second = pool.submit(shared.run, "m", work, two)
        time.sleep(0.1)
        one.cancel()
        with pytest.raises(Cancelled):
            first.result(10)
        assert not second.done() and not work.stopped
        two.cancel()
        with pytest.raises(Cancelled):
            second.result(10)
    until(lambda: work.stopped == 1)
    work.gate.set()
    assert shared.run("m", work, Progress()) is not None and work.begun == 2


def test_a_failure_reaches_everyone_who_waits_and_the_next_begins_anew() -> None:
    shared, gate = Shared[int](), threading.Event()

    def broken(progress: Progress) -> int:
        gate.wait(10)
        raise ValueError("no")

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(shared.run, "m", broken, Progress()) for _ in range(3)]
        time.sleep(0.1)
        gate.set()
        for item in waiting:
            with pytest.raises(ValueError, match="no"):
                item.result(10)
    assert shared.run("m", lambda progress: 7, Progress()) == 7
