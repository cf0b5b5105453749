"""Edit's form: three questions, one control of how much, cards with a way out, and what will be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import contrast_rows
from workbench.data.demonstrations import Demonstrations

Run = Callable[..., AppTest]


def bare(n: int) -> Demonstrations:
    """Prompts without answers: nothing that a contrast could be made of."""
    return Demonstrations(tuple(replace(row, positive=None, negative=None) for row in contrast_rows(n)), "bare")


@pytest.fixture
def edit(app: Run, fresh_backend: Any) -> AppTest:
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    test.session_state["retouch"].method = "mean_difference"
    return fine(test.run())


def keys(test: AppTest) -> set[str]:
    return {item.key for item in test.button if item.key}


def test_a_blocked_card_says_why_and_its_button_leads_to_a_set_that_will_do(edit: AppTest, fresh_backend: Any) -> None:
    pairs = edit.session_state["retouch"].set_name
    edit.session_state["retouch"].set_name = own_set(fresh_backend, rows=bare)
    fine(edit.run())
    assert edit.button(key="choose-sea").disabled and edit.button(key="fit").disabled and "have no positive" in texts(edit)
    fine(edit.button(key="way-sea").click().run())
    assert edit.session_state["retouch"].set_name == pairs and edit.session_state["retouch"].method == "sea"
    assert not edit.button(key="fit").disabled and "way-sea" not in keys(edit)


def test_a_model_in_the_way_is_offered_by_name(edit: AppTest) -> None:
    assert edit.button(key="way-senses").label == "Load embedded-backpack" and "way-sea" not in keys(edit)


def test_where_no_set_will_do_the_card_says_so(edit: AppTest, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.errors import Obstructed
    from workbench.workspace import ways_out

    def none(*_: Any) -> Any:
        raise Obstructed("No set at hand will do for SEA.", "Make one on Demonstrations.")

    edit.session_state["retouch"].set_name = own_set(fresh_backend, rows=bare)
    fine(edit.run())
    monkeypatch.setattr(ways_out, "way_out", none)
    fine(edit.button(key="way-sea").click().run())
    assert "No set at hand will do for SEA." in texts(edit) and edit.session_state["retouch"].method == "mean_difference"


def test_strength_is_told_by_the_dose_and_goes_back_to_what_is_usual(edit: AppTest) -> None:
    assert not [item for item in edit.number_input if item.key == "knob-mean_difference-strength"]
    edit.session_state["knob-mean_difference-strength"] = 3.0
    fine(edit.slider(key="fit-dose-mean_difference").set_value(2.0).run())
    assert "Strength 3 at dose 1, so 6 times the difference here" in texts(edit).replace("\\", "")
    fine(edit.button(key="fit").click().run())
    ran = settled(edit).session_state["retouch"].kept["fit"].value
    assert ran.settings.config["strength"] == 3.0 and ran.settings.dose == 2.0
    fine(edit.button(key="usual-mean_difference").click().run())
    assert "at dose 1, so" not in texts(edit)


def test_what_will_be_used_follows_the_set_and_the_knobs(edit: AppTest, fresh_backend: Any) -> None:
    said = texts(edit)
    rows = fresh_backend.sessions["embedded"].demos(edit.session_state["retouch"].set_name)
    assert f"**{len(rows.split('fit'))} rows of {len(rows)}** will be fitted" in said and "Rows that come without a split" in said
    assert "Writes every token" in said or "writes every token" in said
    fine(edit.segmented_control(key="knob-mean_difference-where").set_value("prompt").run())
    fine(edit.multiselect(key="knob-mean_difference-layers").set_value([2]).run())
    assert "writes the prompt's tokens" in texts(edit) and "Which layers: 2." in texts(edit)


def test_presets_are_told_in_words(edit: AppTest) -> None:
    assert "As the authors published it" not in texts(edit), "mean difference has none"
    said = texts(fine(edit.button(key="choose-sea").click().run()))
    assert "As the authors published it" in said and "Drops what is the bad side's alone" in said.replace("\\", "")


def test_the_form_says_where_the_edit_is_to_act_and_the_fit_has_it(edit: AppTest, fresh_backend: Any) -> None:
    fine(edit.selectbox(key="fit-place-mean_difference-where").set_value("first 4").run())
    assert "writes on the first 4 tokens of the answer" in texts(edit)
    fine(edit.button(key="fit").click().run())
    ran = settled(edit).session_state["retouch"].kept["fit"].value
    assert ran.fitted.edit.place == ran.settings.place == "first 4"
    assert ran.evaluation.lanes[1].edit_ids == (ran.edit,)
    fine(edit.selectbox(key="fit-place-mean_difference-where").set_value("after").run())
    fine(edit.text_input(key="fit-place-mean_difference-after").set_value("w1").run())
    assert "writes after “w1”" in texts(edit)
    # It is the method's own: another one is asked anew, and one of weights is not asked at all.
    fine(edit.button(key="choose-sea").click().run())
    assert edit.selectbox(key="fit-place-sea-where").value == ""
    edit.session_state["retouch"].method = "finetuning"
    fine(edit.run())
    assert not [item for item in edit.selectbox if item.key == "fit-place-finetuning-where"]
