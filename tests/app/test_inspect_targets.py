"""Inspect's target and distractor: single tokens, shown as such, typed or chosen from the model's own next tokens."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts

Run = Callable[..., AppTest]


def test_a_target_of_several_tokens_is_refused_before_any_lens_takes_its_first(app: Run) -> None:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3")
    test.text_input(key="inspect-target").set_value("w1 w2")
    fine(test.text_input(key="inspect-distractor").set_value("w3").run())
    assert "2 tokens here" in texts(test)
    fine(test.segmented_control(key="inspect-lens").set_value("Attribution").run())
    assert "Write a target above." in texts(test), "the distractor is not taken for the target"
    fine(test.text_input(key="inspect-target").set_value("w1").run())
    assert "2 tokens here" not in texts(test) and "Write a target above." not in texts(test)


def test_target_and_distractor_are_chosen_from_what_the_model_would_say(app: Run) -> None:
    test = app("inspect")
    fine(test.text_area(key="inspect-prompt").set_value("w1 w2 w3").run())
    fine(test.button(key="inspect-next").click().run())
    test = settled(test)
    likeliest = test.pills(key="inspect-target-next").options[0]
    share = likeliest.rpartition(" ")[2]
    assert share.endswith("%") and test.pills(key="inspect-distractor-next").options[0] == likeliest
    fine(test.text_area(key="inspect-prompt").set_value("w4 w5").run())
    assert not test.pills, "another prompt has other next tokens"
