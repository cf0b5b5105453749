"""Spectra's cut: a click in the figure moves it, the edit is fitted with it at once, and what the model says stands beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.spectra import panels
from tests.app.conftest import fine, own_set, settled, texts
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def test_a_moved_cut_is_fitted_and_what_the_model_says_stands_beside(app: Run, fresh_backend: Any) -> None:
    test = app("spectra")
    session, chosen = fresh_backend.sessions["embedded"], own_set(fresh_backend)
    with acting_as(test.session_state["retouch"].owner):
        edit = session.fit("sea", chosen, {"layers": [1], "keep": 0.9}).edit.id
    test.session_state["retouch"].edit = edit
    fine(test.run())
    slider = test.slider(key=f"cut-{edit}-plus-1")
    assert "held-out answers differ" not in texts(test), "nothing is fitted before the cut is moved"
    assert not [tab.label for tab in test.tabs if tab.label.startswith("Singular spectra")], "no figure stands there twice"
    fine(slider.set_value(slider.value + 1 if slider.value < slider.max else slider.value - 1).run())
    fine(settled(test).run())
    assert "held-out answers differ from those of the edit as fitted" in texts(test)
    found = test.session_state["retouch"].kept["recut"].value
    assert dict(found.edit.header.config)["k_plus"] == test.slider(key=f"cut-{edit}-plus-1").value
    with acting_as(test.session_state["retouch"].owner):
        assert len(session.shelf.fitted()) == 1, "what is only tried is not kept"


def test_a_click_moves_its_cut_once_and_leaves_the_slider_free(monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, Any] = {"x-cut-plot": {"selection": {"points": [{"curve_number": 1, "x": 4}]}}, "plus": 2, "minus": 9}
    monkeypatch.setattr(panels.st, "session_state", held)
    take, sliders = panels._take_click, {"plus": "plus", "minus": "minus"}  # pyright: ignore[reportPrivateUsage]
    take("x-cut", sliders)
    assert (held["plus"], held["minus"]) == (2, 4)
    held["minus"] = 6
    take("x-cut", sliders)
    assert held["minus"] == 6, "the same click is not taken again"
    held["x-cut-plot"] = {"selection": {"points": []}}
    take("x-cut", sliders)
    held["x-cut-plot"] = {"selection": {"points": [{"curve_number": 0, "x": 5}]}}
    take("x-cut", sliders)
    assert (held["plus"], held["minus"]) == (5, 6)
