"""Heads on Inspect: every score side by side, one head's card, and the link that opens it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.inspect import profile
from tests.app.conftest import ROOT, fine, own_set, settled, texts

Run = Callable[..., AppTest]
PROMPT = "w1 w2 w3 w1 w4"


def heads(app: Run, view: str) -> AppTest:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value(PROMPT)
    test.text_input(key="inspect-target").set_value("w1")
    test.text_input(key="inspect-distractor").set_value("w2")
    fine(test.segmented_control(key="inspect-lens").set_value("Heads").run())
    return fine(test.segmented_control(key="heads-view").set_value(view).run())


@pytest.mark.parametrize("on", ["random", "prompt", "set"])
def test_every_score_on_random_text_a_prompt_and_a_set_leads_to_a_card(app: Run, fresh_backend: Any, on: str) -> None:
    test = heads(app, "Every score")
    if on != "random":
        own = own_set(fresh_backend) if on == "set" else ""
        fine(test.segmented_control(key="profile-on").set_value(on).run())
        if own:
            fine(test.selectbox(key="profile-set").set_value(own).run())
    fine(test.button(key="profile-run").click().run())
    test = settled(test)
    kept = test.session_state["retouch"].kept["head-profile"]
    found = kept.value
    assert found.n == {"random": 8, "prompt": 1, "set": 16}[on] and ("name mover" in found.kinds) == (on == "prompt")
    read_on = {"random": "random text said twice", "prompt": f"the prompt “{PROMPT}”", "set": "the first prompts of random words"}[on]
    assert profile.records(found, kept.settings.words)["read_on"] == read_on and read_on in texts(test)
    fine(test.pills(key="profile-kind").set_value("copying").run())
    assert "Share of probe words" in texts(test) and "From earlier settings" not in texts(test)
    test.selectbox(key="profile-grid-row").set_value(1).run()
    fine(test.selectbox(key="profile-grid-column").set_value(2).run())
    assert "**Head 1.2**" in texts(test) and test.button(key="profile-scope-add")
    if on == "prompt":
        fine(test.button(key="profile-card").click().run())
        test = settled(test)
        assert test.session_state["retouch"].kept["head-card"].value.head == 2 and "From the last token it looks" in texts(test)


def test_an_empty_prompt_is_refused_and_not_read_as_random_text(app: Run) -> None:
    test = heads(app, "Every score")
    fine(test.segmented_control(key="profile-on").set_value("prompt").run())
    for name in ("target", "distractor"):
        test.text_input(key=f"inspect-{name}").set_value("")
    fine(test.text_area(key="inspect-prompt").set_value("").run())
    fine(test.button(key="profile-run").click().run())
    assert "prompt is empty" in texts(settled(test)) and "head-profile" not in test.session_state["retouch"].kept


def test_a_card_reads_the_chosen_head_and_goes_stale_with_its_prompt(app: Run) -> None:
    test = heads(app, "One head")
    test.number_input(key="card-layer").set_value(2)
    fine(test.number_input(key="card-head").set_value(3).run())
    fine(test.button(key="card-run").click().run())
    test = settled(test)
    card, said = test.session_state["retouch"].kept["head-card"].value, texts(test)
    assert (card.layer, card.head) == (2, 3) and card.without.change is not None and card.composition
    assert "**Head 2.3**" in said and "the target's logit difference changes by" in said and "Whom it listens to" in said
    assert json.dumps(card.rows()) and "From earlier settings" not in said
    assert test.session_state["retouch"].head == "2.3"
    fine(test.number_input(key="card-layer").set_value(0).run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="card-run").click().run())
    assert "No head stands before it" in texts(settled(test))


@pytest.mark.parametrize(("link", "view"), [("1.2", "One head"), ("9.9", "One head"), ("1.x", "Kinds")])
def test_a_link_opens_a_head(app: Run, link: str, view: str) -> None:
    app("start")
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    test.query_params["head"] = link
    fine(test.run())
    fine(test.switch_page("pages/inspect.py").run())
    if view == "Kinds":
        assert test.segmented_control(key="inspect-lens").value == "Logit lens"
        return
    assert test.segmented_control(key="inspect-lens").value == "Heads" and test.segmented_control(key="heads-view").value == view
    shown = (test.number_input(key="card-layer").value, test.number_input(key="card-head").value)
    assert shown == ((1, 2) if link == "1.2" else (0, 0))
    assert test.session_state["retouch"].head == f"{shown[0]}.{shown[1]}"
    fine(test.segmented_control(key="heads-view").set_value("Kinds").run())
    assert test.segmented_control(key="heads-view").value == "Kinds", "the link is followed once"
