"""Warm workers: pytest runs the tests once, noting which functions each test calls; then each mutant is tried in a fork of that process.

A fork has everything imported and every session fixture made. The mutated function's code is put into the live function, so that every
module that imported it has it, and caches that hold results of the right code are emptied.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from tests.mutants.mutations import ROOT, Mutant, changed, constants, functions

MOST_SECONDS = 60.0
"""Tests of a mutant run quickest first, until this much of the time that they took when they were watched."""
SURVIVED, KILLED, UNUSABLE = 0, 1, 3
Function = tuple[str, str]  # path and qualified name


@dataclass(frozen=True)
class Tried:
    """A mutant and what came of it: killed by a test or by the clock, survived, no test calls it, or unusable."""

    mutant: Mutant
    outcome: str
    seconds: float


@dataclass(frozen=True)
class _Running:
    mutant: Mutant
    started: float
    limit: float


@dataclass(frozen=True)
class _Live:
    """The functions of the running process by their file, and the caches of the package."""

    functions: Mapping[str, Sequence[FunctionType]]
    caches: Sequence[Any]

    @staticmethod
    def found() -> _Live:
        by_path: dict[str, list[FunctionType]] = defaultdict(list)
        caches: list[Any] = []
        for item in gc.get_objects():
            if type(item) is FunctionType:
                by_path[item.__code__.co_filename].append(item)
            elif type(item) is functools._lru_cache_wrapper and str(item.__module__).startswith("workbench"):  # pyright: ignore[reportPrivateUsage]
                caches.append(item)
        return _Live(by_path, caches)

    def put(self, one: Mutant) -> None:
        """Make the running process behave as if the module had been imported with the mutant in it."""
        path, names = str(ROOT / one.path), set(changed(one))
        codes = {code.co_qualname: code for code in _codes(compile(one.source, path, "exec"))}
        nodes = dict(functions(one.source))
        for function in self.functions[path]:
            name = function.__code__.co_qualname
            if name in names:
                function.__code__ = codes[name]
                _put_defaults(function, nodes[name])
        before = constants((ROOT / one.path).read_text())
        for name, value in constants(one.source).items():
            if before.get(name) != value:
                _put_constant(path, name, value)
                for function in self.functions[path]:  # constants are defaults of arguments
                    if function.__code__.co_qualname in nodes:
                        _put_defaults(function, nodes[function.__code__.co_qualname])
        for cache in self.caches:
            cache.cache_clear()


class Workers:
    """A pytest plugin that runs mutants instead of tests, after one watched run of the tests."""

    def __init__(self, mutants: Sequence[Mutant], n_workers: int, seconds: float, tell: Callable[[str], None]) -> None:
        self.mutants, self.tried = list(mutants), list[Tried]()
        self._n_workers, self._seconds, self._tell = n_workers, seconds, tell
        self._callers: dict[Function, set[pytest.Item]] = defaultdict(set)
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
        self._watch(session.items)
        live = _Live.found()
        gc.freeze()  # a fork then copies no page for the collector's sake
        end, waiting = time.monotonic() + self._seconds, self.mutants[::-1]
        running: dict[int, _Running] = {}
        while running or (waiting and time.monotonic() < end):
            while waiting and len(running) < self._n_workers and time.monotonic() < end:
                self._begin(waiting.pop(), session.items[0], running, live)
            time.sleep(0.02)
            self._collect(running)
        self._tell(f"{len(waiting)} mutants were not reached in {self._seconds:.0f} s." if waiting else "Every mutant was tried.")
        return True

    def _watch(self, items: Sequence[pytest.Item]) -> None:
        """Run every test, and note what it calls. What its set-up calls counts for all tests of its module: fixtures are shared."""
        paths = {str(ROOT / one.path): one.path for one in self.mutants}
        known: dict[int, Function | None] = {}
        seen: list[CodeType] = []  # held, so that no other code gets the id
        called: dict[bool, set[Function]] = {}

        def trace(frame: FrameType, event: str, argument: object) -> None:
            code = frame.f_code
            if id(code) not in known:
                known[id(code)] = (paths[code.co_filename], _outer(code)) if code.co_filename in paths else None
                seen.append(code)
            if (function := known[id(code)]) is not None:
                called[self._in_set_up].add(function)

        for i, item in enumerate(items):
            called, started = {True: set(), False: set()}, time.monotonic()
            sys.settrace(trace)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[(i + 1) % len(items)])
            sys.settrace(None)
            self._took[item] = time.monotonic() - started
            for function in called[True]:
                self._callers[function] |= {other for other in items if other.path == item.path}
            for function in called[False]:
                self._callers[function].add(item)
        if self._failed:
            pytest.exit("Without any mutant these fail:\n" + "\n".join(self._failed), returncode=pytest.ExitCode.TESTS_FAILED)
        self._tell(f"\n{len(items)} tests took {sum(self._took.values()):.0f} s, watched.")

    def _begin(self, one: Mutant, first: pytest.Item, running: dict[int, _Running], live: _Live) -> None:
        names = changed(one)
        functions = [(one.path, name) for name in names] if names else [key for key in self._callers if key[0] == one.path]
        calling = sorted(set[pytest.Item]().union(*(self._callers[key] for key in functions)), key=self._took.__getitem__)
        chosen, total = list[pytest.Item](), 0.0
        for item in calling:
            total += self._took[item]
            if chosen and total > MOST_SECONDS:
                break
            chosen.append(item)
        if not chosen:
            self._ended(Tried(one, "no test calls it", 0.0))
            return
        limit = 30.0 + 5.0 * sum(self._took[item] for item in chosen)
        pid = os.fork()
        if not pid:
            self._try(one, chosen, first, live)
        running[pid] = _Running(one, time.monotonic(), limit)

    def _try(self, one: Mutant, chosen: Sequence[pytest.Item], first: pytest.Item, live: _Live) -> None:
        code = UNUSABLE
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            live.put(one)
            code = KILLED
            for item, following in zip(chosen, [*chosen[1:], first]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._failed:
                    break
            else:
                code = SURVIVED
        finally:
            os._exit(code)

    def _collect(self, running: dict[int, _Running]) -> None:
        for pid, one in list(running.items()):
            took = time.monotonic() - one.started
            done, status = os.waitpid(pid, os.WNOHANG)
            outcome = {SURVIVED: "survived", UNUSABLE: "unusable"}.get(os.waitstatus_to_exitcode(status), "killed")
            if not done:
                if took <= one.limit:
                    continue
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                outcome = "killed by the clock"
            del running[pid]
            self._ended(Tried(one.mutant, outcome, took))

    def _ended(self, tried: Tried) -> None:
        self.tried.append(tried)
        if not tried.outcome.startswith("killed"):
            self._tell(f"{tried.mutant.group} mutant, {tried.outcome}: {tried.mutant.diff}")
        elif len(self.tried) % 50 == 0:
            self._tell(f"{len(self.tried)}/{len(self.mutants)}")


def _outer(code: CodeType) -> str:
    return code.co_qualname.split(".<locals>")[0]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def _put_defaults(function: FunctionType, node: ast.FunctionDef) -> None:
    def value(default: ast.expr) -> object:
        return eval(ast.unparse(default), function.__globals__)

    function.__defaults__ = tuple(value(default) for default in node.args.defaults) or None
    named = zip(node.args.kwonlyargs, node.args.kw_defaults)
    function.__kwdefaults__ = {one.arg: value(default) for one, default in named if default is not None} or None


def _put_constant(path: str, name: str, value: str) -> None:
    """Set a constant in its module and in every module that imported it by its name."""
    modules = [module for module in list(sys.modules.values()) if type(getattr(module, "__dict__", None)) is dict]
    owner = next(module for module in modules if vars(module).get("__file__") == path)
    old, new = vars(owner)[name], eval(value, vars(owner))
    for module in modules:
        if vars(module).get(name) is old:
            setattr(module, name, new)
