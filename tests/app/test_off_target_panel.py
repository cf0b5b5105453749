"""Off target, on the page Evaluate: an edit against a set of another task and a protected one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, settled, texts
from tests.app.test_history_panel import opened
from tests.app.test_pages import fitted

Run = Callable[..., AppTest]


def test_an_edit_is_measured_on_a_protected_set(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 60)
    edit, chosen = test.session_state["retouch"].edit, test.session_state["retouch"].set_name
    fine(test.switch_page("pages/evaluate.py").run())
    evaluate_view(test, "Off target")
    assert test.button(key="off-target-run").disabled
    test.multiselect(key="off-target-edits").set_value([edit]).run()
    fine(test.multiselect(key="off-target-kept").set_value([chosen]).run())
    n = len(fresh_backend.sessions["embedded"].demos.get(chosen).split("test"))
    assert f"Scores {n} rows under 3 lanes each" in texts(test)
    fine(test.button(key="off-target-run").click().run())
    found = texts(settled(test))
    assert "beyond a random edit of equal size" in found and "Protected sets" in found and "From earlier settings" not in found
    was = test.session_state["retouch"].kept["off-target"].value
    fine(test.multiselect(key="off-target-kept").set_value([]).run())
    test = opened(test, fresh_backend, "off target")
    assert test.session_state["retouch"].kept["off-target"].value.table() == was.table()
    assert test.multiselect(key="off-target-kept").value == [chosen] and test.multiselect(key="off-target-edits").value == [edit]
    assert "From earlier settings" not in texts(test)
