"""The dose as a plane, on the page Evaluate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, settled, texts
from tests.app.test_history_panel import opened
from tests.app.test_pages import fitted

Run = Callable[..., AppTest]


def test_an_edit_stands_in_the_plane_of_its_layer(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    fine(test.switch_page("pages/evaluate.py").run())
    evaluate_view(test, "Dose plane")
    fine(test.button(key="plane-run").click().run())
    found = texts(settled(test))
    assert "points are safe" in found and "From earlier settings" not in found
    was = test.session_state["retouch"].kept["dose-plane"].value
    fine(test.slider(key="plane-layer").set_value(1 - was.layer).run())
    test = opened(test, fresh_backend, "dose plane")
    again = test.session_state["retouch"].kept["dose-plane"].value
    assert again.table() == was.table() and test.slider(key="plane-layer").value == was.layer
    assert "From earlier settings" not in texts(test)
