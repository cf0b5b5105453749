"""Compare from a token on: branches as a tree, spans kept as demonstrations, the way to Inspect, which layer moved it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_compare_page import said, with_edit

Run = Callable[..., AppTest]


def pinned(app: Run, backend: Any, at: int = 2) -> tuple[AppTest, str]:
    test, edit = with_edit(app, backend)
    fine(test.selectbox(key="compare-0-1-twin-None").set_value(at).run())
    return test, edit


def pills(test: AppTest, key: str) -> Any:
    return next(item for item in test.button_group if item.key == key)


def branched(test: AppTest, key: str) -> AppTest:
    """Take the first of the offered tokens, and branch."""
    choice = pills(test, key)
    fine(choice.set_value(choice.options[0].content if hasattr(choice.options[0], "content") else choice.options[0]).run())
    fine(test.button(key=f"{key}-go").click().run())
    return settled(test)


def test_both_lanes_go_on_from_a_forced_token_and_branches_are_a_tree(app: Run, fresh_backend: Any) -> None:
    test, _ = pinned(app, fresh_backend)
    root = said(test).texts[0][1].tokens
    assert test.button(key="compare-0-1-force-2-go").disabled and "Branches" not in texts(test)
    test = branched(test, "compare-0-1-force-2")
    (tree,) = test.session_state["retouch"].parts["Trees"].trees
    first = tree.branch(1)
    (begun,) = first.settings.forced
    assert (
        begun[:2] == tuple(token.id for token in root[:2]) and begun[2] != root[2].id and begun[2] in root[2].top_ids + root[2].base_top_ids
    )
    assert [tuple(token.id for token in text.tokens[:3]) for text in first.found.texts[0]] == [begun] * 2
    assert "Branches" in texts(test)
    fine(test.text_input(key="branch-0-1-name").set_value("the other way").run())
    fine(test.button(key="branch-0-1-pin").click().run())
    # Another branch from that one: one deeper.
    fine(test.selectbox(key="branch-0-1-0-0-twin-None").set_value(4).run())
    test = branched(test, "branch-0-1-0-0-force-4")
    (tree,) = test.session_state["retouch"].parts["Trees"].trees
    assert tree.walk() == ((0, 0), (1, 1), (2, 2)) and tree.branch(1).title == "the other way"
    fine(test.button(key="branch-go-0-1").click().run())
    fine(test.button(key="branch-0-1-cut").click().run())
    (tree,) = test.session_state["retouch"].parts["Trees"].trees
    assert tree.walk() == ((0, 0), (1, 1)), "what is pinned stays"
    fine(test.button(key="branch-go-0-1").click().run())
    fine(test.button(key="branch-0-1-pin").click().run())
    for number in (1, 0):
        fine(test.button(key=f"branch-0-{number}-cut").click().run())
    assert not test.session_state["retouch"].parts["Trees"].trees and "Branches" not in texts(test)


def test_a_span_of_the_answer_is_kept_as_a_side_of_its_prompt(app: Run, fresh_backend: Any) -> None:
    test, _ = pinned(app, fresh_backend)
    fine(test.slider(key="compare-0-1-span-2").set_value((1, 2)).run())
    span = "".join(token.text for token in said(test).texts[0][1].tokens[1:3])
    fine(test.button(key="compare-0-1-span-negative").click().run())
    (row,) = fresh_backend.sessions["embedded"].demos("judged answers")
    assert row.prompt == "w1 w2 w3" and (row.negative or "").strip() == span.strip() and row.positive is None


def test_a_span_ends_with_its_sentence_unless_one_says_otherwise(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test, _ = pinned(app, fresh_backend)
    key = "compare-0-1-span"
    fine(test.slider(key=f"{key}-2").set_value((0, 2)).run())
    assert f"{key}-cut" not in test.session_state, "nothing ends within it"
    monkeypatch.setattr("pages._ui.compare.token_drawer.first_sentence", lambda text: text.strip()[:1])
    whole = "".join(token.text for token in said(test).texts[0][1].tokens[:3]).strip()
    fine(test.run())
    fine(test.button(key=f"{key}-positive").click().run())
    assert (fresh_backend.sessions["embedded"].demos("judged answers")[0].positive or "").strip() == whole[0]
    fine(test.toggle(key=f"{key}-cut").set_value(False).run())
    fine(test.button(key=f"{key}-negative").click().run())
    assert (fresh_backend.sessions["embedded"].demos("judged answers")[0].negative or "").strip() == whole


def test_the_layers_behind_a_token_are_drawn_for_that_token_alone(app: Run, fresh_backend: Any) -> None:
    test, _ = pinned(app, fresh_backend)
    fine(test.button(key="compare-0-1-layers").click().run())
    told = texts(settled(test)).replace("\\", "")
    assert "nats, layer" in told or "leaves this token as it was" in told
    fine(test.selectbox(key="compare-0-1-twin-None").set_value(0).run())
    assert "nats, layer" not in texts(test).replace("\\", "")


def test_inspect_opens_on_the_text_up_to_the_token(app: Run, fresh_backend: Any) -> None:
    test, edit = pinned(app, fresh_backend)
    tokens = said(test).texts[0][1].tokens
    fine(test.button(key="compare-0-1-inspect").click().run())
    assert test.title[0].value == "Inspect"
    whole = fresh_backend.sessions["embedded"].model.tokens(test.session_state["inspect-prompt"]).ids[0].tolist()
    assert whole[-2:] == [token.id for token in tokens[:2]] and test.session_state["inspect-target"] == tokens[2].text
    assert [lane.keys for lane in test.session_state["retouch"].lanes] == [(edit,)]
