"""Rivals in words on the pages: the first card's on Edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from pages._ui.edit import methods
from tests.app.conftest import fine, own_set, settled, texts

Run = Callable[..., AppTest]


def test_a_fit_is_measured_beside_its_rivals_in_words(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    chosen = own_set(fresh_backend, 60)
    test.session_state["retouch"].set_name = chosen
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    said, against = methods.rival_keys(chosen)
    test.text_input(key=said).set_value("Be right.").run()
    test.text_input(key=against).set_value("Be wrong.").run()
    test.button(key="fit").click().run()
    found = texts(settled(test))
    assert "“Be right.” before every prompt, with no edit," in found and "tokens a prompt, the edit none" in found
    assert "“Be wrong.”" in found and "with “Be right.” before it and no edit" in found
    assert "From earlier settings" not in found
    test.text_input(key=against).set_value("").run()
    assert "From earlier settings" in texts(test)
