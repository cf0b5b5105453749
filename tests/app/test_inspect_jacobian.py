"""The Jacobian lens on Inspect: its cost before the click, fitted once, read in the same grid with the same verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts

Run = Callable[..., AppTest]


def test_it_is_fitted_once_with_its_cost_told_and_read_in_the_same_grid(app: Run, fresh_backend: Any) -> None:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3 w4")
    test.text_input(key="inspect-target").set_value("w1")
    fine(test.text_input(key="inspect-distractor").set_value("w2").run())
    fine(test.segmented_control(key="lens-by").set_value("jacobian_lens").run())
    assert "Costs 128 gradients" in texts(test) and not any(item.key == "lens-run" for item in test.button), "nothing to read through yet"
    fine(test.select_slider(key="jacobian-n").set_value(2).run())
    assert "Costs 64 gradients" in texts(test)
    fine(test.button(key="jacobian-run").click().run())
    test = settled(test)
    said = texts(test)
    assert "Fitted on 2 of its own texts" in " ".join([said, *(item.label for item in test.expander)]) and "cosine of" in said
    assert not any(item.key == "lens-halves" for item in test.toggle), "there is no reading between attention and MLP"
    fine(test.button(key="lens-run").click().run())
    test = settled(test)
    found = test.session_state["retouch"].kept["logit_lens"].value
    assert found.entries == ("1_pre", "2_pre", "final_post") and found.fitted_on.startswith("2 of its own texts")
    assert "here or later in the text" in texts(test)
    test.selectbox(key="lens-grid-row").set_value(1).run()
    fine(test.selectbox(key="lens-grid-column").set_value(1).run())
    fine(test.segmented_control(key="cell-verb").set_value("ablate").run())
    fine(test.button(key="cell-make").click().run())
    test = settled(test)
    both = test.session_state["retouch"].kept["logit_lens"].value
    assert len(both.lanes) == 2 and both.fitted_on == found.fitted_on, "the draft is read by the same lens"
    fine(test.segmented_control(key="lens-by").set_value("logit_lens").run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="lens-run").click().run())
    test = settled(test)
    assert test.session_state["retouch"].kept["logit_lens"].value.entries[0] == "0_pre"


def test_a_damaged_fit_is_told_and_can_be_made_anew(app: Run, fresh_backend: Any) -> None:
    test = app("inspect")
    session = fresh_backend.sessions["embedded"]
    folder = session.workspace.folder / "lenses"
    folder.mkdir()
    (folder / f"{session.model.fingerprint.weights}.safetensors").write_bytes(b"nothing")
    fine(test.segmented_control(key="lens-by").set_value("jacobian_lens").run())
    assert "is no Jacobian lens of the loaded model" in texts(test)
    fine(test.select_slider(key="jacobian-n").set_value(1).run())
    fine(test.button(key="jacobian-run").click().run())
    test = settled(test)
    assert any("Fitted on 1 of its own texts" in item.label for item in test.expander)
    assert "is no Jacobian lens" not in texts(test)
