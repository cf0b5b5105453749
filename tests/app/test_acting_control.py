"""Compare: where a lane acts, whose attention it keeps, and stacks in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.app.test_compare_page import said, with_edit
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def test_a_lane_acts_where_its_control_says_and_keeps_the_bases_attention_if_asked(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    fine(test.selectbox(key=f"acts-{edit}-where").set_value("generated").run())
    test = settled(test)
    assert said(test).lanes[1].label == "mean_difference × 1 on the answer"
    assert "Dashed: the tokens that it acts at" in texts(test)
    fine(test.toggle(key=f"acts-{edit}-frozen").set_value(True).run())
    test = settled(test)
    assert said(test).lanes[1].label == "mean_difference × 1 on the answer, the base's attention"
    fine(test.selectbox(key="compare-0-1-twin-None").set_value(1).run())
    assert not [button for button in test.button if button.key == "compare-0-1-layers"], "that is of edits as they were fitted"
    fine(test.toggle(key=f"acts-{edit}-frozen").set_value(False).run())
    fine(test.selectbox(key=f"acts-{edit}-where").set_value("").run())
    assert said(settled(test)).lanes[1].label == "mean_difference × 1" and "Dashed: the tokens" not in texts(test)


def test_a_lane_acts_after_a_text_that_is_typed_and_its_edit_can_take_the_place_over(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    fine(test.selectbox(key=f"acts-{edit}-where").set_value("after regex").run())
    assert said(settled(test)).lanes[1].label == "mean_difference × 1", "nothing is said before there is something to wait for"
    fine(test.text_input(key=f"acts-{edit}-after regex").set_value("(").run())
    assert "is no regular expression" in texts(test)
    fine(test.text_input(key=f"acts-{edit}-after regex").set_value("[a-z]+ ").run())
    test = settled(test)
    lane = said(test).lanes[1]
    assert lane.label == "mean_difference × 1 after a match of “[a-z]+ ”" and lane.places == ('after regex "[a-z]+ "',)
    assert "that it acts at" in texts(test) and lane.edit_ids == (edit,)
    before = [text.text for text in said(test).texts[0]]
    fine(test.button(key=f"acts-{edit}-keep").click().run())
    test = settled(test)
    kept = said(test).lanes[1]
    assert kept.edit_ids != (edit,) and kept.places == () and [text.text for text in said(test).texts[0]] == before
    assert kept.label.startswith("mean_difference") and "after a match of" in kept.label


def test_edits_are_stacked_in_a_lane_and_turned_round(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    with acting_as(test.session_state["retouch"].owner):
        other = fresh_backend.sessions["embedded"].fit("mean_difference", own_set(fresh_backend), {"layers": [0]}).edit.id
    fine(test.run())
    fine(test.selectbox(key=f"acts-{edit}-also").set_value(other).run())
    fine(test.button(key=f"acts-{edit}-stack").click().run())
    test = settled(test)
    assert said(test).lanes[1].edit_ids == (edit, other) and "They act in this order" in texts(test)
    fine(test.button(key=f"acts-{edit}+{other}-turn").click().run())
    assert said(settled(test)).lanes[1].edit_ids == (other, edit)
    fine(test.button(key=f"acts-{other}+{edit}-angle").click().run())
    assert "° apart (random directions as many: " in texts(settled(test))


def test_an_edit_of_weights_that_is_to_act_somewhere_is_refused_by_name(app: Run, fresh_backend: Any) -> None:
    from tests.conftest import taught_rows

    test, _ = with_edit(app, fresh_backend)
    with acting_as(test.session_state["retouch"].owner):
        edit = fresh_backend.sessions["embedded"].fit("finetuning", taught_rows(8), {"epochs": 1}).edit.id
    test.session_state["retouch"].turn_on(edit)
    test = settled(fine(test.run()))
    fine(test.selectbox(key=f"acts-{edit}-where").set_value("prompt").run())
    assert "changes weights, which act at every token" in texts(settled(test))
