"""A grid larger than anybody reads is shown a window at a time, the last columns first; what is picked is named by its own place."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine


def page() -> None:
    import streamlit as st

    from pages._ui.kit.components import grid

    rows, columns = [f"layer {i}" for i in range(60)], [f"t{j}" for j in range(250)]
    picked = grid(rows, columns, [[0.5] * 250] * 60, key="wide", texts=[[f"{i}.{j}" for j in range(250)] for i in range(60)])
    st.text(f"picked {picked}")


def small() -> None:
    from pages._ui.kit.components import grid

    grid(["a"], ["b", "c"], [[0.1, 0.2]], key="small")


def test_a_window_is_moved_and_a_pick_outside_it_is_let_go() -> None:
    test = fine(AppTest.from_function(page).run())
    assert test.select_slider(key="wide-rows").value == 0 and test.select_slider(key="wide-columns").value == 150
    assert [option.split()[0] for option in test.selectbox(key="wide-column").options][::99] == ["150", "249"]
    test.selectbox(key="wide-row").set_value(4)
    fine(test.selectbox(key="wide-column").set_value(200).run())
    assert "picked (4, 200)" in test.text[0].value
    fine(test.select_slider(key="wide-columns").set_value(0).run())
    assert "picked None" in test.text[0].value, "it lies outside"
    test.selectbox(key="wide-row").set_value(4)
    fine(test.selectbox(key="wide-column").set_value(7).run())
    assert "picked (4, 7)" in test.text[0].value
    fine(test.select_slider(key="wide-rows").set_value(10).run())
    assert len(test.selectbox(key="wide-row").options) == 50 and test.selectbox(key="wide-row").options[-1] == "layer 59"


def test_a_small_grid_has_no_window() -> None:
    assert not fine(AppTest.from_function(small).run()).select_slider
