"""Library's runs: opened again they stand as they were, two differ in what differed, notes and pins stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_compare_page import said, with_edit
from tests.app.test_pages import fitted
from workbench.workspace.overlays import overlays
from workbench.workspace.people import acting_as
from workbench.workspace.runs import Run as Kept

Run = Callable[..., AppTest]


def test_a_run_is_opened_again_with_its_controls_and_the_same_texts(app: Run, fresh_backend: Any, monkeypatch: Any) -> None:
    from pages._ui.library import history

    test, _ = with_edit(app, fresh_backend)
    was = said(test)
    fine(test.number_input(key="sample-n").set_value(5).run())
    assert said(settled(test)).texts != was.texts
    fine(test.switch_page("pages/library.py").run())
    chosen: list[int] = []
    honest = history.st.dataframe

    def selected(*given: Any, **how: Any) -> Any:
        drawn = honest(*given, **how)
        return type("Picked", (), {"selection": {"rows": chosen}}) if how.get("key") == "runs-table" else drawn

    monkeypatch.setattr(history.st, "dataframe", selected)
    chosen[:] = [0, 1]
    told = texts(fine(test.run()))
    assert "What differs" in told
    table = next(item.value for item in test.dataframe if list(item.value.columns) == ["what", "A", "B"])
    assert "sampling.max_new_tokens" in set(table["what"])
    chosen[:] = [1]
    fine(test.run())
    with acting_as(test.session_state["retouch"].owner):
        run = fresh_backend.sessions["embedded"].workspace.runs.list("compare")[1]
    fine(test.text_input(key=f"run-note-{run.id}").set_value("as at first").run())
    fine(test.button(key="run-note-keep").click().run())
    fine(test.button(key="run-pin").click().run())
    kept = fresh_backend.sessions["embedded"].workspace.runs.get(run.id)
    assert (kept.note, kept.is_pinned) == ("as at first", True)
    chosen[:] = [0]  # what is pinned stands first
    fine(test.run())
    fine(test.button(key="run-open").click().run())
    assert test.title[0].value == "Compare"
    test = settled(fine(test.switch_page("pages/compare.py").run()))
    assert said(test).texts == was.texts and test.text_area(key="compare-box-1-0").value == "w1 w2 w3"
    assert test.number_input(key="sample-n").value == was.sampling.max_new_tokens and "From earlier settings" not in texts(test)
    assert "was not saved and is gone" not in texts(test)
    with monkeypatch.context() as restarted:
        restarted.setattr("pages._ui.compare.texts.known_edits", lambda session: {})
        assert "was not saved and is gone" in texts(fine(test.run()))
    chosen[:] = []
    fine(test.switch_page("pages/library.py").run())
    fine(test.text_input(key="runs-search").set_value("as at first").run())
    assert "1 run." in texts(test)


def is_old(test: AppTest, slot: str) -> bool:
    """Whether no step of a lesson, whenever it began, takes what stands in a slot as an answer."""
    return test.session_state["retouch"].kept[slot].asked == 0.0


def opened(test: AppTest, backend: Any, kind: str, at: int = 0) -> AppTest:
    """Open a run of a kind from Start's recent work, the newest being 0, and stand on the page that it opens."""
    with acting_as(test.session_state["retouch"].owner):
        run = backend.sessions["embedded"].workspace.runs.list(kind)[at]
    fine(test.switch_page("pages/start.py").run())
    fine(test.button(key=f"recent-{run.id}").click().run())
    page = {"fit": "edit", "compare": "compare"}.get(kind, "evaluate")
    return fine(test.switch_page(f"pages/{page}.py").run())  # after a change of page AppTest has the new page's file alone


def test_an_evaluation_is_opened_with_its_controls_and_its_result_and_nothing_is_run(
    app: Run, fresh_backend: Any, monkeypatch: Any
) -> None:
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    fine(test.switch_page("pages/evaluate.py").run())
    fine(test.number_input(key="evaluate-placebos").set_value(1).run())
    fine(test.slider(key=f"evaluate-dose-{edit}").set_value(2.0).run())
    fine(test.button(key="evaluate").click().run())
    was = settled(test).session_state["retouch"].kept["evaluate"].value
    fine(test.slider(key=f"evaluate-dose-{edit}").set_value(0.5).run())
    fine(test.number_input(key="evaluate-placebos").set_value(0).run())
    fine(test.button(key="evaluate").click().run())
    other = settled(test).session_state["retouch"].kept["evaluate"].value
    assert other.metrics() != was.metrics() and not is_old(test, "evaluate")
    test = opened(test, fresh_backend, "evaluate", 1)
    assert is_old(test, "evaluate")
    again = test.session_state["retouch"].kept["evaluate"].value
    assert again.metrics() == was.metrics() and again.verdict == was.verdict and not fresh_backend.jobs.active()
    assert (test.slider(key=f"evaluate-dose-{edit}").value, test.number_input(key="evaluate-placebos").value) == (2.0, 1)
    assert "From earlier settings" not in texts(test)
    fine(test.number_input(key="evaluate-placebos").set_value(2).run())
    assert "From earlier settings" in texts(test)
    monkeypatch.setattr("pages._ui.evaluate.edits.known_edits", lambda session: {})
    assert "There is no edit to measure yet." in texts(fine(test.run())) and test.dataframe, "its edit is gone, its record is not"


def test_a_fit_is_opened_with_its_form_and_its_verdict_or_says_that_its_edit_is_gone(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    was = test.session_state["retouch"].kept["fit"].value
    fine(test.number_input(key="fit-seed").set_value(7).run())
    fine(test.button(key="fit").click().run())
    assert settled(test).session_state["retouch"].kept["fit"].value.edit != was.edit
    test = opened(test, fresh_backend, "fit", 1)
    assert is_old(test, "fit")
    again = test.session_state["retouch"].kept["fit"].value
    assert again.edit == was.edit and again.evaluation.verdict == was.evaluation.verdict and again.settings == was.settings
    assert test.number_input(key="fit-seed").value == 0 and "From earlier settings" not in texts(test)
    with acting_as(test.session_state["retouch"].owner):
        shelf = fresh_backend.sessions["embedded"].shelf
    shelf._fitted.clear()  # as after a restart: nobody saved it
    test = opened(test, fresh_backend, "fit", 1)
    assert "edit or edit folder" in texts(test) and "fit" not in test.session_state["retouch"].kept


def test_a_run_of_another_model_is_not_opened_under_this_ones_name(app: Run, fresh_backend: Any) -> None:
    test = app()
    with acting_as(test.session_state["retouch"].owner):
        run = fresh_backend.sessions["embedded"].workspace.runs.record("evaluate", "elsewhere", inputs={}, model="another")
    fine(test.run())
    fine(test.button(key=f"recent-{run.id}").click().run())
    assert "This run is of another" in texts(test) and "evaluate" not in test.session_state["retouch"].kept


def test_two_runs_lie_in_one_picture_where_both_have_it() -> None:
    def run(kind: str, at: int, *, inputs: Any = None, outputs: Any = None, metrics: Any = None) -> Kept:
        return Kept(str(at), kind, f"run {at}", 0.0, None, None, inputs or {}, outputs or {}, metrics or {}, {}, False, "", False)

    def scored(at: int, value: float, metric: str = "mc1") -> Kept:
        row = {"metric": metric, "lane": "sea × 1", "value": value, "low": None, "high": None, "n": 4, "unit": ""}
        return run("evaluate", at, outputs={"rows": [row]})

    (picture,) = overlays(scored(1, 0.2), scored(2, 0.4))
    assert [(point.run, point.value) for point in picture.points] == [(0, 0.2), (1, 0.4)] and picture.title == "mc1"
    swept = [run("sweep", at, inputs={"doses": [0, 1]}, metrics={"mc1": [at, None if at == 3 else 2]}) for at in range(4)]
    (drawn,) = overlays(swept[1], swept[2])
    assert [trace.y for trace in drawn.traces] == [(1, 2), (2, 2)] and drawn.traces[0].x == (0.0, 1.0)
    assert overlays(swept[1], swept[3]) == () and overlays(scored(1, 0.1), swept[1]) == ()
    assert overlays(scored(1, 0.1), scored(2, 0.1, "kl")) == ()


def open_rail(test: AppTest) -> AppTest:
    """A run with the rail open: AppTest sends no state of what folds."""
    test.session_state["rail"] = True
    return fine(test.run())


def test_the_rail_beside_every_page_is_folded_and_then_opens_a_run_as_it_was(app: Run, fresh_backend: Any, monkeypatch: Any) -> None:
    from workbench.workspace.runs import Runs

    read: list[int] = []
    honest = Runs.list
    test, _ = with_edit(app, fresh_backend)
    was = said(test)
    with acting_as(test.session_state["retouch"].owner):
        (run,) = fresh_backend.sessions["embedded"].workspace.runs.list("compare")
        other = fresh_backend.sessions["embedded"].workspace.runs.record("evaluate", "elsewhere", inputs={}, model="another")
    monkeypatch.setattr(Runs, "list", lambda self, *a, **k: read.append(1) or honest(self, *a, **k))
    fine(test.number_input(key="sample-n").set_value(5).run())
    assert said(settled(test)).texts != was.texts
    fine(test.switch_page("app.py").run())  # the app with its frame, at Start: a page alone has no rail in AppTest
    n = len(read)
    open_rail(test)
    assert len(read) == 2 * n + 1  # folded it reads no run: Start's own list is all
    test.button(key=f"rail-{other.id}").click()
    open_rail(test)
    assert "This run is of another" in texts(test) and said(test).texts != was.texts and test.title[0].value == "Start"
    test.text_input(key="rail-search").set_value("no such words")
    fine(test.run())  # AppTest forgets what folds, as Streamlit does with each change of page: it stays open
    assert "No run says that." in texts(test) and not any(str(button.key).startswith("rail-") for button in test.button)
    test.text_input(key="rail-search").set_value("")
    open_rail(test)
    test.button(key=f"rail-{run.id}").click()
    open_rail(test)
    test = settled(fine(test.switch_page("pages/compare.py").run()))
    assert said(test).texts == was.texts and test.number_input(key="sample-n").value == was.sampling.max_new_tokens
    assert "From earlier settings" not in texts(test) and "This run is of another" not in texts(test)
