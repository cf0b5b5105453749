"""Which did it, on the page Evaluate: an edit's demonstrations, the rows that they harm, and the fit without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, own_set, settled, texts
from tests.app.test_history_panel import opened
from tests.app.test_pages import fitted
from tests.conftest import taught_rows
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def test_an_edits_demonstrations_are_followed_to_the_rows_and_some_are_dropped(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 60)
    edit = test.session_state["retouch"].edit
    fine(test.switch_page("pages/evaluate.py").run())
    evaluate_view(test, "Which did it")
    assert test.selectbox(key="influence-edit").value == edit
    assert not [one for one in test.select_slider if one.key == "influence-fits"], "a closed form takes no fits"
    fine(test.button(key="influence-run").click().run())
    found = texts(settled(test))
    assert "held-out rows the edit harms" in found and "In closed form" in found and "From earlier settings" not in found
    (kept,) = [kept.value for name, kept in test.session_state["retouch"].kept.items() if name == "influence"]
    worst = kept.demonstrations[kept.order[0]]
    fine(test.multiselect(key=f"influence-drop-{edit}").set_value([worst.id]).run())
    fine(test.button(key="influence-refit").click().run())
    was = texts(settled(test))
    assert "Without 1 demonstration" in was
    fine(test.multiselect(key=f"influence-drop-{edit}").set_value([]).run())
    test.session_state["retouch"].kept.clear()
    test = opened(test, fresh_backend, "refit")
    assert test.multiselect(key=f"influence-drop-{edit}").value == [worst.id]
    again = texts(test)
    told = [line for line in was.splitlines() if "Without 1 demonstration" in line or "held-out rows the edit harms" in line]
    assert len(told) == 2 and all(line in again for line in told) and "From earlier settings" not in again


def test_an_edit_of_another_set_is_not_offered(app: Run, fresh_backend: Any) -> None:
    test = app("evaluate")
    evaluate_view(test, "Which did it")
    assert "No edit at hand was fitted on this set" in texts(test)


def test_an_edit_that_was_trained_is_asked_by_fits_without_each_and_what_that_is_worth_is_said(app: Run, fresh_backend: Any) -> None:
    test = app("evaluate")
    session, chosen = fresh_backend.sessions["embedded"], own_set(fresh_backend, 24, taught_rows)
    with acting_as(test.session_state["retouch"].owner):
        edit = session.fit("lora", chosen, {"epochs": 1, "n_neutral": 2, "chunk_tokens": 8}).edit
    test.session_state["retouch"].set_name = chosen
    test.session_state["influence-fits"] = 26  # as a run asked that was recorded elsewhere: no number that the page offers
    evaluate_view(test, "Which did it")
    assert test.selectbox(key="influence-edit").value == edit.id and test.select_slider(key="influence-fits").value == 26
    fine(test.button(key="influence-run").click().run())
    told = texts(settled(test))
    assert (
        "each without one demonstration" in told and "A fit in another order has other influences" in told and "In closed form" not in told
    )
