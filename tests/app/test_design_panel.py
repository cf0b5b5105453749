"""Design search on Evaluate: live front, any point opened, pinned and compared; a cancel keeps what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, own_set, settled, texts
from tests.app.test_history_panel import opened
from tests.conftest import taught_rows
from workbench.evaluate.design.record import DesignSearch
from workbench.figures.design import design_front

Run = Callable[..., AppTest]


def test_a_search_draws_its_front_and_a_point_is_opened_pinned_and_compared(app: Run, fresh_backend: Any) -> None:
    test = app("evaluate")
    chosen = own_set(fresh_backend, 60, taught_rows)
    test.session_state["retouch"].set_name = chosen
    evaluate_view(test, "Design")
    assert "will stand here" in texts(test)
    model = fresh_backend.sessions["embedded"].model.info.name
    fine(test.multiselect(key=f"design-methods-{chosen}-{model}").set_value(["mean_difference", "hpr"]).run())
    assert "HPR: each fit trains" in texts(test)
    test.multiselect(key=f"design-methods-{chosen}-{model}").set_value(["mean_difference"]).run()
    test.toggle(key="design-control").set_value(False).run()
    fine(test.select_slider(key="design-trials").set_value(20).run())
    fine(test.button(key="design-run").click().run())
    found = texts(settled(test, 240))
    assert "designs were measured on 12 validation prompts" in found and "From earlier settings" not in found
    (kept,) = [kept.value for name, kept in test.session_state["retouch"].kept.items() if name == "design"]
    assert isinstance(kept, DesignSearch) and len(kept.trials) == 20 and kept.winners
    drawn: Any = design_front(kept, {"mean_difference": "Mean difference"})
    names = {trace.name for trace in drawn.data}
    assert {"Mean difference", "front", "winner"} <= names and "drawn at random" not in names
    fine(test.selectbox(key="design-trial").set_value(kept.front[0]).run())
    fine(test.button(key="design-open").click().run())
    settled(test)
    fine(test.button(key="design-pin").click().run())
    session, design = fresh_backend.sessions["embedded"], kept.trials[kept.front[0]].design
    (saved,) = session.edits()
    assert saved.dose == design.dose and saved.name == design.label
    fine(test.button(key="design-compare").click().run())
    (lane,) = test.session_state["retouch"].lanes
    assert lane.doses[0][1] == design.dose
    test.session_state["retouch"].kept.clear()
    test = opened(test, fresh_backend, "design")
    again = test.session_state["retouch"].kept["design"].value
    assert again == kept and design_front(again, {"mean_difference": "Mean difference"}) == drawn
    assert test.select_slider(key="design-trials").value == 20 and not test.toggle(key="design-control").value
    assert "From earlier settings" not in texts(test) and not fresh_backend.jobs.active()
