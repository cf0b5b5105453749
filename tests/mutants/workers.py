"""Warm workers: pytest runs the tests once, noting which statements each test reaches; then each mutant is tried in a fork of that process.

A fork has everything imported and every session fixture made. The mutated function's code is put into the live function, so that every
module that imported it has it, and caches that hold results of the right code are emptied. A mutant meets the tests that reach its
statement, quickest first.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.mutants.live import Live
from tests.mutants.mutations import Mutant
from tests.mutants.statements import Statement, noting, statement_at

MOST_SECONDS = 40.0
"""Tests of a sampled mutant run quickest first, until this much of the time that they took; of the others all run."""
SURVIVED, KILLED, UNUSABLE = 0, 1, 3


@dataclass(frozen=True)
class Tried:
    """A mutant and what came of it: killed by a test or by the clock, survived, no test reaches it, or unusable.

    `seconds` of processor; `test` is the number of the last one that was begun, `of` how many reach its statement.
    """

    mutant: Mutant
    outcome: str
    seconds: float = 0.0
    test: int = 0
    of: int = 0


@dataclass(frozen=True)
class _Running:
    mutant: Mutant
    until: float
    test: mmap.mmap
    of: int


class Workers:
    """A pytest plugin that runs mutants instead of tests, after one watched run of the tests."""

    def __init__(self, mutants: Sequence[Mutant], n_workers: int, seconds: float, tell: Callable[[str], None]) -> None:
        self.mutants, self.tried = list(mutants), list[Tried]()
        self._n_workers, self._seconds, self._tell = n_workers, seconds, tell
        self._reaching: dict[Statement, set[pytest.Item]] = defaultdict(set)
        self._took: dict[pytest.Item, float] = {}
        self._failed: list[str] = []
        self._in_set_up = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed += [f"{report.nodeid}: {report.longreprtext}"] if report.failed else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self._in_set_up = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self._in_set_up = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        live = Live.found(sorted({one.path for one in self.mutants}))
        self._watch(session.items, live)
        gc.freeze()  # a fork then copies no page for the collector's sake
        end, waiting = time.monotonic() + self._seconds, self.mutants[::-1]
        running: dict[int, _Running] = {}
        while running or (waiting and time.monotonic() < end):
            while waiting and len(running) < self._n_workers and time.monotonic() < end:
                self._begin(waiting.pop(), session.items[0], running, live)
            time.sleep(0.01)
            self._collect(running)
        self._tell(f"{len(waiting)} mutants were not reached in {self._seconds:.0f} s." if waiting else "Every mutant was tried.")
        return True

    def _watch(self, items: Sequence[pytest.Item], live: Live) -> None:
        """Run every test, and note what it reaches. What its set-up reaches counts for all tests of its module: fixtures are shared."""
        reached: dict[bool, set[Statement]] = {True: set(), False: set()}
        for path in {one.path for one in self.mutants}:
            live.put_module(path, noting(path, lambda statement: reached[self._in_set_up].add(statement)))
        for i, item in enumerate(items):
            started = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[(i + 1) % len(items)])
            self._took[item] = time.process_time() - started
            for statement in reached[True]:
                self._reaching[statement] |= {other for other in items if other.path == item.path}
            for statement in reached[False]:
                self._reaching[statement].add(item)
            reached[True].clear(), reached[False].clear()
        if self._failed:
            pytest.exit("Without any mutant these fail:\n" + "\n".join(self._failed), returncode=pytest.ExitCode.TESTS_FAILED)
        self._tell(f"\n{len(items)} tests took {sum(self._took.values()):.0f} s of processor, watched.")

    def _begin(self, one: Mutant, first: pytest.Item, running: dict[int, _Running], live: Live) -> None:
        statement = statement_at(one.path, one.line)
        statements = [key for key in self._reaching if key[0] == one.path] if statement is None else [statement]
        reaching = set[pytest.Item]().union(*(self._reaching.get(key, ()) for key in statements))
        if statement is None:  # a constant may be read where no function of its module is called
            reaching |= {item for item in self._took if live.imported(one.path, vars(item.getparent(pytest.Module).obj))}
        calling = sorted(reaching, key=self._took.__getitem__)
        chosen, total = list[pytest.Item](), 0.0
        for item in calling:
            total += self._took[item]
            if one.group == "sample" and chosen and total > MOST_SECONDS:
                break
            chosen.append(item)
        if not chosen:
            self._ended(Tried(one, "no test reaches it"))
            return
        seconds, at = 5 + round(3 * min(total, sum(self._took[item] for item in chosen))), mmap.mmap(-1, 4)
        pid = os.fork()
        if not pid:
            self._try(one, chosen, first, live, at, seconds)
        running[pid] = _Running(one, time.monotonic() + 60 + 5 * seconds, at, len(calling))

    def _try(self, one: Mutant, chosen: Sequence[pytest.Item], first: pytest.Item, live: Live, at: mmap.mmap, seconds: int) -> None:
        code = UNUSABLE
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            live.put(one)
            code = KILLED
            for number, (item, following) in enumerate(zip(chosen, [*chosen[1:], first]), 1):
                at[:] = number.to_bytes(4)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._failed:
                    break
            else:
                code = SURVIVED
        finally:
            os._exit(code)

    def _collect(self, running: dict[int, _Running]) -> None:
        for pid, one in list(running.items()):
            done, status, used = os.wait4(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status)
            outcome = {SURVIVED: "survived", UNUSABLE: "unusable", -signal.SIGKILL: "killed by the clock"}.get(code, "killed")
            if not done:
                if time.monotonic() < one.until:
                    continue
                os.kill(pid, signal.SIGKILL)
                _, _, used = os.wait4(pid, 0)
                outcome = "killed by the clock"
            del running[pid]
            self._ended(Tried(one.mutant, outcome, used.ru_utime + used.ru_stime, int.from_bytes(one.test[:]), one.of))

    def _ended(self, tried: Tried) -> None:
        self.tried.append(tried)
        if not tried.outcome.startswith("killed"):
            self._tell(f"{tried.mutant.group} mutant, {tried.outcome}: {tried.mutant.diff}")
        elif len(self.tried) % 50 == 0:
            self._tell(f"{len(self.tried)}/{len(self.mutants)}")
