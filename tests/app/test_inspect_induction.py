"""The second card of Start: one click finds the induction heads and proves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from workbench.lenses.heads import HEAD_KINDS, HeadScores
from workbench.lenses.induction import InductionProof

Run = Callable[..., AppTest]


def found(model: Any) -> tuple[HeadScores, InductionProof]:
    scores = np.zeros((1, len(HEAD_KINDS), 3, 4))
    scores[0, 2, 1, :2] = 0.9, 0.7
    proof = InductionProof("tiny", ((1, 0), (1, 1)), (0.9, 0.7), 0.8, 0.1, (0.75, 0.79), 8, 0)
    return HeadScores("tiny", (), HEAD_KINDS, scores, scores * 0, np.full(3, 0.05), 8, 0), proof


def test_a_click_on_start_finds_the_heads_and_says_in_one_sentence_what_is_lost_without_them(
    app: Run, fresh_backend: Any, monkeypatch: Any
) -> None:
    test = app()
    scores, proof = found(fresh_backend)
    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", lambda lens, **_: proof if lens == "induction_proof" else scores)
    fine(test.button(key="start-heads").click().run())
    fine(test.switch_page("pages/inspect.py").run())
    said = texts(settled(test))
    assert "gives the repeated token 10% instead of 80%" in said and "it keeps 75% to 79%" in said and "n=8 texts" in said
    assert "Head 1.0** is an induction head" in said
    fine(test.button(key="induction-all").click().run())
    assert test.session_state["retouch"].parts["Scope"].picked == {"1.0", "1.1"}
    test.selectbox(key="induction-grid-row").set_value(2).run()
    fine(test.selectbox(key="induction-grid-column").set_value(3).run())
    assert "Head 2.3** is no induction head" in texts(test)


def test_a_model_without_such_heads_is_told_so_where_they_would_stand(app: Run) -> None:
    test = app("inspect")
    fine(test.segmented_control(key="inspect-lens").set_value("Heads").run())
    fine(test.segmented_control(key="heads-view").set_value("Induction").run())
    assert "will stand here" in texts(test)
    fine(test.button(key="induction-run").click().run())
    assert "nothing to set against others" in texts(settled(test))
