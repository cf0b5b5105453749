"""Slots of jobs on pages: a cancelled job leaves what the slot holds or nothing; a refused one costs neither another nor a result."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import ROOT, fine, settled, texts
from tests.app.test_pages import fitted
from tests.app.test_people import waits
from workbench.errors import Busy
from workbench.progress import Cancelled
from workbench.workspace.share import CLASS

Run = Callable[..., AppTest]


def stopped(fitted: Any) -> Callable[..., Any]:
    """A fit that is cancelled and had something by then."""

    def run(*_: Any, **__: Any) -> Any:
        raise Cancelled(best=fitted)

    return run


def test_a_fit_that_was_cancelled_among_presets_is_no_result_of_theirs(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = fitted(app, fresh_backend)
    had = test.session_state["retouch"].kept["fit"].value.fitted
    test.session_state["retouch"].method = "sea"
    fine(test.run())
    monkeypatch.setattr(fresh_backend.sessions["embedded"], "run", stopped(had))
    fine(test.button(key="fit-both").click().run())
    said = texts(fine(settled(test).run()))
    assert "presets" not in test.session_state["retouch"].kept and "Cancelled. Nothing was changed." in said


def test_a_fit_that_was_cancelled_on_shuffled_sides_is_no_evaluation(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.methods import get, registry

    test = fitted(app, fresh_backend)
    had = test.session_state["retouch"].kept["fit"].value.fitted
    fine(test.switch_page("pages/evaluate.py").run())
    fine(test.toggle(key="evaluate-shuffled").set_value(True).run())
    monkeypatch.setitem(registry._METHODS, "mean_difference", replace(get("mean_difference"), run=stopped(had)))
    fine(test.button(key="evaluate").click().run())
    said = texts(fine(settled(test).run()))
    assert "evaluate" not in test.session_state["retouch"].kept and "Cancelled. Nothing was changed." in said


@pytest.fixture
def slot_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[AppTest], Any]:
    """The slot of fits, as pages use it, in a tab."""

    def of(test: AppTest) -> Any:
        from pages._ui.edit.fitting import FIT
        from pages._ui.kit import backend, jobs

        now = test.session_state["retouch"]
        for module in (backend, jobs):
            monkeypatch.setattr(module, "state", lambda: now)
        return FIT

    return of


def test_a_job_that_is_refused_costs_nothing_of_the_one_that_runs(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, slot_of: Callable[[AppTest], Any]
) -> None:
    from pages._ui.kit import jobs
    from workbench.workspace.jobs import Jobs
    from workbench.workspace.share import share

    monkeypatch.setenv(CLASS, "1")
    fresh_backend.jobs = Jobs(share=share())
    test, over = app("edit"), threading.Event()
    test.session_state["retouch"].method = "mean_difference"
    now, slot = test.session_state["retouch"], slot_of(test)
    try:
        jobs.begin(slot, "Fitting x", lambda tell: waits(tell, over), busy="embedded")
        running = fresh_backend.jobs.get(now.slots[slot.name])
        for _ in range(3):
            fresh_backend.jobs.submit(lambda tell: waits(tell, over), title="Fitting y", owner=now.owner, model="embedded")
        jobs.begin(slot, "Fitting z", lambda tell: waits(tell, over), busy="embedded")
        assert now.slots[slot.name] == running.id and not running.snapshot().is_cancelling
        assert isinstance(now.failed[slot.name], Busy)
        said = texts(fine(test.run()))
        assert "3 of your fits and measurements wait already" in said and "Fitting x" in said
        fresh_backend.jobs.of(now.owner)[-1].cancel()
        jobs.begin(slot, "Fitting z", lambda tell: waits(tell, over), busy="embedded")
        assert now.slots[slot.name] != running.id and slot.name not in now.failed
        assert running.wait(20) and running.state == "cancelled"
    finally:
        over.set()
        fresh_backend.jobs.cancel_all()


def test_a_run_that_is_broken_off_while_it_collects_loses_no_result(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, slot_of: Callable[[AppTest], Any]
) -> None:
    from pages._ui.kit import jobs

    class BrokenOff(Exception):
        """As Streamlit ends a run for the next one."""

    def taken(*_: Any) -> None:
        raise BrokenOff

    test = app("edit")
    now, slot = test.session_state["retouch"], replace(slot_of(test), told=None)
    jobs.begin(slot, "Counting", lambda tell: 42)
    jobs.wait(slot)
    monkeypatch.setattr(fresh_backend.jobs, "taken", taken)
    with pytest.raises(BrokenOff):
        jobs.collect(slot)
    assert now.kept[slot.name].value == 42 and slot.name not in now.slots


def records(source: str) -> list[str]:
    """The names of a module's own classes that a tab remembers."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "part"]
    asked = {node.args[0].id for node in calls if node.args and isinstance(node.args[0], ast.Name)}
    return [node.name for node in nodes if isinstance(node, ast.ClassDef) and node.name in asked]


def test_no_two_records_that_a_tab_remembers_share_a_name() -> None:
    """`state.part` keeps them by name: one would be handed the other's."""
    found = [name for path in (ROOT / "pages").rglob("*.py") for name in records(path.read_text())]
    assert found and sorted(found) == sorted(set(found))
    assert records("class A: ...\nclass B: ...\npart(A).x = 1") == ["A"]
