"""The long watch, on the page Evaluate: an edit beside the untouched model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, settled, texts
from tests.app.test_history_panel import opened
from tests.app.test_pages import fitted
from tests.conftest import words

Run = Callable[..., AppTest]


def test_an_edit_is_watched_beside_the_untouched_model(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    fine(test.switch_page("pages/evaluate.py").run())
    evaluate_view(test, "Long watch")
    fine(test.text_area(key="watch-prompt").set_value(" ").run())
    assert test.button(key="watch-run").disabled
    test.multiselect(key="watch-edits").set_value([edit]).run()
    fine(test.text_area(key="watch-prompt").set_value(words(11, 12)).run())
    fine(test.button(key="watch-run").click().run())
    found = texts(settled(test))
    assert "base: " in found and "after" in found and "From earlier settings" not in found
    was = test.session_state["retouch"].kept["watch"].value
    fine(test.text_area(key="watch-prompt").set_value(words(13)).run())
    fine(test.select_slider(key="watch-tokens").set_value(100).run())
    test = opened(test, fresh_backend, "watch")
    again = test.session_state["retouch"].kept["watch"].value
    assert [one.text for one in again.texts] == [one.text for one in was.texts] and "From earlier settings" not in texts(test)
    assert test.text_area(key="watch-prompt").value == words(11, 12) and test.select_slider(key="watch-tokens").value == 400
