"""A cell of the logit lens becomes an edit at that layer and token, run at once as a lane beside the base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts

Run = Callable[..., AppTest]


def drawer(app: Run) -> AppTest:
    """The drawer of the cell after layer 1 at the second token."""
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3 w4")
    test.text_input(key="inspect-target").set_value("w1")
    fine(test.text_input(key="inspect-distractor").set_value("w2").run())
    fine(test.button(key="lens-run").click().run())
    settled(test)
    test.selectbox(key="lens-grid-row").set_value(1).run()
    return fine(test.selectbox(key="lens-grid-column").set_value(1).run())


@pytest.mark.parametrize(("verb", "given"), [("swap", "w7"), ("steer", "w42"), ("patch", "w5 w6 w7 w8"), ("ablate", "")])
def test_a_verb_makes_a_draft_and_runs_it_beside_the_base(app: Run, fresh_backend: Any, verb: str, given: str) -> None:
    test = drawer(app)
    fine(test.segmented_control(key="cell-verb").set_value(verb).run())
    if given:
        assert test.button(key="cell-make").disabled
        fine(test.text_input(key=f"cell-{verb}").set_value(given).run())
    fine(test.button(key="cell-make").click().run())
    test = settled(test)
    now = test.session_state["retouch"]
    assert len(now.lanes) == 1 and now.lanes == now.kept["logit_lens"].settings.lanes
    lens, (draft, _) = now.kept["logit_lens"].value, now.kept["cell-draft"].value
    assert len(lens.lanes) == 2 and draft.edit.header.facts["from_end"] == 3 and draft.edit.header.facts["verb"] == verb
    assert draft.edit.header.facts["layer"] == 1, "rows begin with the last layer"
    said = texts(test)
    assert ("instead of" in said or "still says" in said) and "From earlier settings" not in said
    fine(test.selectbox(key="lens-grid-column").set_value(2).run())
    assert "From earlier settings" in texts(test), "another cell has no draft yet"
    fine(test.selectbox(key="lens-grid-column").set_value(1).run())
    fine(test.button(key="cell-off").click().run())
    assert not test.session_state["retouch"].lanes, "who takes it off does not get it back"
    fine(test.run())
    assert not test.session_state["retouch"].lanes
    fine(test.button(key="cell-on").click().run())
    assert test.session_state["retouch"].lanes == lens_lanes(now)


def lens_lanes(now: Any) -> Any:
    return now.kept["logit_lens"].settings.lanes


def test_what_makes_no_edit_is_said_in_the_drawer(app: Run) -> None:
    test = drawer(app)
    fine(test.segmented_control(key="cell-verb").set_value("patch").run())
    fine(test.text_input(key="cell-patch").set_value("w5").run())
    fine(test.button(key="cell-make").click().run())
    said = texts(settled(test))
    assert "3 tokens from the end" in said and "Take a longer prompt" in said


def test_a_cell_says_where_its_targets_stand_among_all_tokens(app: Run, fresh_backend: Any) -> None:
    test = drawer(app)
    found, model = test.session_state["retouch"].kept["logit_lens"].value, fresh_backend.sessions["embedded"].model
    entry = len(found.entries) - 2  # row 1: before the last layer
    scores = found.target_log_probs[0, entry, 1]
    ranks = found.target_ranks[0, entry, 1] + 1
    assert bool(ranks[0] < ranks[1]) is bool(scores[0] > scores[1]) and ranks.max() <= model.info.d_vocab
    assert f"Rank of {found.targets[0]} {ranks[0]:,}, of {found.targets[1]} {ranks[1]:,}" in texts(test).replace("␣", " ").replace("\\", "")
