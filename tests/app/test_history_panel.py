"""Library's runs: opened again they stand as they were, two differ in what differed, notes and pins stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_compare_page import said, with_edit
from workbench.workspace.people import acting_as

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
    chosen[:] = []
    fine(test.switch_page("pages/library.py").run())
    fine(test.text_input(key="runs-search").set_value("as at first").run())
    assert "1 run." in texts(test)
