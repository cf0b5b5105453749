"""The end of a prompt and the end of a text: what the guard says, and where the models that ship stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.kit import backend as kit_backend
from pages._ui.kit.prompts import trouble
from tests.app.conftest import fine, settled, texts

Run = Callable[..., AppTest]
RENDERED = (
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "<|user|>\nHi<|end|>\n<|assistant|>\n",
    "[INST] Hi [/INST]\n",
)


@pytest.mark.parametrize("text", RENDERED)
def test_the_newline_of_a_template_is_no_trailing_space(text: str) -> None:
    assert trouble(text) is None
    assert trouble(text + " ") == ("The prompt ends in a space: the next word would begin without its own.", text.rstrip())


def test_a_trailing_space_line_end_and_full_stop_are_told_apart() -> None:
    assert trouble("The capital of France is") is None
    for end, says in ((" ", "ends in a space"), ("\t", "ends in a space"), ("\n", "ends in a line end"), (".", "ends in a full stop")):
        told = trouble("The capital of France is" + end)
        assert told is not None and says in told[0] and told[1] == "The capital of France is"


@pytest.mark.parametrize("model", ["embedded", "embedded-backpack"])
def test_the_models_that_ship_stop_at_their_full_stop_or_line_end(
    model: str, app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench import opening

    monkeypatch.setattr(kit_backend, "open_session", lambda _, *given, **how: opening.open_session(model, *given, **how))
    test = app("compare")
    assert test.multiselect(key="sample-stop").value == ["full stop", "line end"]
    fine(test.button(key="compare").click().run())
    said = texts(settled(test))
    assert said.count("ended by stop. The untouched model.") == 2 and "ended by length" not in said
    fine(test.multiselect(key="sample-stop").set_value([]).run())
    fine(test.button(key="compare").click().run())
    assert "ended by stop" not in texts(settled(test)) and "ended by length" in texts(test)
