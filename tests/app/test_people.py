"""People on one server: what one has not saved is neither shown to another nor opened by a link; a second tab is the same person."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import ROOT, another_tab, fine, settled, texts
from tests.app.test_models_of_tabs import whole
from tests.app.test_pages import fitted
from tests.app.test_two_tabs import with_state
from workbench.errors import Busy
from workbench.progress import Progress
from workbench.workspace.people import acting_as
from workbench.workspace.share import CLASS

Run = Callable[..., AppTest]


def stranger() -> AppTest:
    """A tab of somebody who was never here."""
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def offered(test: AppTest) -> str:
    """What the pages that choose among edits offer."""
    found: list[str] = []
    for page in ("compare", "evaluate", "spectra", "library"):
        fine(test.switch_page(f"pages/{page}.py").run())
        found += [texts(test), *(str(item.options) for item in (*test.multiselect, *test.selectbox)), str(test.dataframe)]
    return " ".join(found)


def waits(progress: Progress, over: threading.Event) -> None:
    while not over.wait(0.01):
        progress(0.3, "fitting")


def test_an_unsaved_edit_is_offered_to_its_person_in_every_tab_and_to_nobody_else(app: Run, fresh_backend: Any) -> None:
    mine = fitted(app, fresh_backend)
    edit = mine.session_state["retouch"].edit
    second, other = another_tab(mine), stranger()
    fine(second.run())
    fine(other.run())
    assert f"{edit[:4]} (not saved)" in offered(second)
    assert edit[:4] not in offered(other), "neither as an edit nor as a run"


def test_a_link_to_anothers_unsaved_edit_opens_nothing_and_tells_nothing(app: Run, fresh_backend: Any) -> None:
    mine = fitted(app, fresh_backend)
    edit = mine.session_state["retouch"].edit
    for test, opens in ((another_tab(mine), True), (stranger(), False)):
        test.query_params["on"], test.query_params["edit"] = f"{edit}:2", edit
        fine(test.run())
        assert bool(test.session_state["retouch"].lanes) is opens
        assert ("mean difference" in offered(test)) is opens


def test_a_saved_edit_is_everybodys(app: Run, fresh_backend: Any) -> None:
    mine = fitted(app, fresh_backend)
    edit = mine.session_state["retouch"].edit
    fine(mine.button(key=f"fit-save-{edit}").click().run())
    other = stranger()
    other.query_params["on"] = edit
    fine(other.run())
    assert [lane.keys for lane in other.session_state["retouch"].lanes] == [(edit,)]
    assert "(not saved)" not in offered(other)


def test_two_who_fit_the_same_have_one_each_and_the_last_to_leave_takes_nothing_from_the_other(app: Run, fresh_backend: Any) -> None:
    one, two = fitted(app, fresh_backend), fitted(app, fresh_backend)
    first, second = one.session_state["retouch"], two.session_state["retouch"]
    assert first.edit == second.edit and first.owner != second.owner
    assert f"{first.edit[:4]} (not saved)" in offered(one) and f"{first.edit[:4]} (not saved)" in offered(two)


def test_a_job_is_found_by_a_link_of_its_person_alone_and_can_be_stopped_from_any_tab_of_theirs(app: Run, fresh_backend: Any) -> None:
    over, mine = threading.Event(), app()
    owner = mine.session_state["retouch"].owner
    job = fresh_backend.jobs.submit(lambda tell: waits(tell, over), title="Fitting x", owner=owner, model="embedded", kind="fit")
    try:
        other, second = stranger(), another_tab(mine)
        for test in (other, second):
            test.query_params["jobs"] = f"fit:{job.id}"
            fine(test.run())
            assert bool([button for button in test.sidebar.button if button.key == f"status-cancel-{job.id}"]) is (test is second)
            fine(test.switch_page("pages/edit.py").run())
        assert "Fitting x" not in texts(other) and "fit" not in other.session_state["retouch"].slots and job.state == "running"
        assert "Fitting x" in texts(second) and second.session_state["retouch"].slots["fit"] == job.id
        whole(mine)
        fine(mine.sidebar.button(key=f"status-cancel-{job.id}").click().run())
        assert job.wait(10) and job.state == "cancelled"
    finally:
        over.set()


def test_a_waiting_job_says_how_many_are_before_it_and_long_work_can_be_kept(app: Run, fresh_backend: Any) -> None:
    over = threading.Event()
    held = fresh_backend.jobs.submit(lambda tell: waits(tell, over), title="Fitting x", owner="somebody", model="embedded")
    try:
        test = app("edit")
        test.session_state["retouch"].method = "mean_difference"
        fine(test.run())
        fine(test.button(key="fit").click().run())
        assert "waits for 1 job before it" in texts(test), texts(test)
        fine(test.button(key="fit-keep").click().run())
        job = fresh_backend.jobs.of(test.session_state["retouch"].owner)[0]
        assert job.is_kept and test.button(key="fit-keep").disabled
    finally:
        over.set()
    held.result(30)
    settled(test)


def test_in_a_class_one_person_has_a_share(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.workspace.jobs import Jobs
    from workbench.workspace.share import share

    monkeypatch.setenv(CLASS, "1")
    over, fresh_backend.jobs = threading.Event(), Jobs(share=share())
    test = app("edit")
    owner = test.session_state["retouch"].owner
    try:
        for _ in range(4):
            fresh_backend.jobs.submit(lambda tell: waits(tell, over), title="Fitting x", owner=owner, model="embedded")
        test.session_state["retouch"].method = "mean_difference"
        fine(test.run())
        fine(test.button(key="fit").click().run())
        assert "3 of your fits and measurements wait already" in texts(test)
    finally:
        over.set()
        fresh_backend.jobs.cancel_all()


def test_in_a_class_judged_answers_are_ones_own(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.demonstrations import sets

    one, other = app(), app()
    session = fresh_backend.sessions["embedded"]

    def judge(test: AppTest, owner: str, text: str) -> str:
        test.session_state["retouch"].owner = owner
        names: list[str] = []
        with_state(test, lambda: names.append(sets.judge(session, "w1 w2", text, True)))
        return names[0]

    # Owners are random: in a class of thirty, four digits alike are met once in 150 classes, eight never.
    ann, bob = "abcd1111" + 8 * "0", "abcd2222" + 8 * "0"
    monkeypatch.setenv(CLASS, "1")
    anns, bobs = judge(one, ann, "w3"), judge(other, bob, "w4")
    assert anns != bobs and anns == judge(one, ann, "w5")
    assert [row.positive for row in session.demos(anns)] == [" w3", " w5"] and [row.positive for row in session.demos(bobs)] == [" w4"]
    monkeypatch.delenv(CLASS)
    assert judge(one, ann, "w3") == judge(other, bob, "w4") == sets.JUDGED, "elsewhere all judge into one"


def test_models_of_tabs_that_are_closed_take_nothing_of_ones_share(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, tiny_folders: Any
) -> None:
    from pages._ui.kit import state

    app()
    monkeypatch.setenv(CLASS, "1")
    tabs = [state.State(model=name, owner="ann", connection=name) for name in ("one", "two")]
    open_tabs = {"one", "two"}
    monkeypatch.setattr(state, "_tabs", set(tabs))
    monkeypatch.setattr(state, "is_open", lambda name: name in open_tabs)
    with acting_as("ann"), pytest.raises(Busy, match="one and two"):
        fresh_backend.open(str(tiny_folders["llama"]))
    open_tabs.remove("two")
    assert state.models_in_use("ann") == {"one"} and state.models_in_use() == {"one", "two"}, "its tab may yet come back"
    with acting_as("ann"):
        assert fresh_backend.open(str(tiny_folders["llama"]))


def test_a_failed_load_is_said_once_and_leaves_with_its_model(app: Run, fresh_backend: Any) -> None:
    app()
    test = stranger()
    test.query_params["model"] = "/no/such/folder"
    fine(test.run())
    fine(test.switch_page("pages/model.py").run())
    fine(test.button(key="again-load").click().run())
    settled(test)
    fine(whole(test).switch_page("pages/model.py").run())  # the app around the page takes what a load gave
    assert texts(test).count("/no/such/folder") >= 1
    assert len([item for item in test.text if "such" in item.value]) == 1, [item.value for item in test.text]
    fine(test.button(key="again-first").click().run())
    assert not [item for item in test.text if "such" in item.value]
