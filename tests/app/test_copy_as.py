"""Edit's form as JSON, Python and a command: what is typed there fills the form, and what cannot be read stays with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages._ui.edit import copy_as
from tests.app.conftest import fine, own_set, settled, texts

Run = Callable[..., AppTest]


def area(label: str, text: str, *, key: str, is_wrong: bool, on_typed: Callable[[str], None]) -> None:
    """A plain text area in place of the editor, whose script wants a browser."""
    at = f"{key}-area"
    st.session_state[at] = text
    st.text_area(label, key=at, on_change=lambda: on_typed(st.session_state[at]))


@pytest.fixture
def form(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page on mean difference and a set of one's own."""
    monkeypatch.setattr(copy_as, "text_editor", area)
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    test.session_state["retouch"].method = "mean_difference"
    return fine(test.run())


def shown(test: AppTest, view: str) -> str:
    return str(fine(test.segmented_control(key="copy-view").set_value(view).run()).text_area(key=f"copy-{view}-area").value)


def typed(test: AppTest, view: str, text: str) -> AppTest:
    return fine(test.text_area(key=f"copy-{view}-area").set_value(text).run())


def test_the_three_texts_say_what_the_form_says_and_follow_it(form: AppTest) -> None:
    from workbench.cli.fit_command import read_command
    from workbench.workspace.asked_fit import read_json, read_python

    fine(form.multiselect(key="knob-mean_difference-layers").set_value([1]).run())
    fine(form.slider(key="fit-dose-mean_difference").set_value(2.0).run())
    fine(form.number_input(key="fit-seed").set_value(7).run())
    found = [read(shown(form, view)) for view, read in (("JSON", read_json), ("Python", read_python), ("Command", read_command))]
    assert found[0] == found[1] == found[2]
    assert (found[0].config, found[0].dose, found[0].seed) == ({"layers": [1]}, 2.0, 7)
    fine(form.button(key="fit").click().run())
    settled(form)
    ran = form.session_state["retouch"].kept["fit"].value
    assert ran.settings.config["layers"] == [1] and (ran.settings.seed, ran.settings.dose) == (7, 2.0)


def test_what_is_typed_fills_the_form_of_another_method(form: AppTest) -> None:
    told = json.loads(shown(form, "JSON"))
    typed(form, "JSON", json.dumps(told | {"method": "sea", "config": {"keep": 0.8, "layers": [2]}, "seed": 3, "dose": 1.5}))
    assert form.session_state["retouch"].method == "sea"
    assert form.multiselect(key="knob-sea-layers").value == [2] and form.number_input(key="knob-sea-keep").value == 0.8
    assert form.number_input(key="fit-seed").value == 3 and form.slider(key="fit-dose-sea").value == 1.5
    command = shown(form, "Command")
    assert "--set keep=0.8 --set layers=2 --seed 3 --dose 1.5" in command
    typed(form, "Command", command.replace("keep=0.8", "keep=0.7"))
    assert form.number_input(key="knob-sea-keep").value == 0.7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config": {"layers": [99]}}, "the model has layers 0 to"),
        ({"config": {"lairs": [1]}}, "lairs"),
        ({"model": "other"}, "model = 'other'; this form fits with 'embedded'"),
        ({"data": "nothing"}, "nothing"),
        ({"chat": True}, "there is nothing to choose here"),
    ],
)
def test_what_cannot_be_taken_over_stays_with_its_reason_and_the_form_as_it_was(form: AppTest, change: dict[str, Any], told: str) -> None:
    before = shown(form, "JSON")
    wrong = json.dumps(json.loads(before) | change)
    typed(form, "JSON", wrong)
    assert form.text_area(key="copy-JSON-area").value == wrong and told in texts(form)
    fine(form.button(key="copy-again").click().run())
    assert form.text_area(key="copy-JSON-area").value == before and told not in texts(form)
