"""Inspect under an edit: what it did, by layer and head, and the same pictures for base, edit and the difference of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.inspect.lane import CHANGE
from tests.app.conftest import fine, settled, texts
from tests.app.test_inspect_panels import Run, inspect
from tests.made_edits import shift
from workbench.workspace.people import acting_as


def edited(app: Run, backend: Any, lens: str) -> AppTest:
    """The page on a lens, an edit being on."""
    test = inspect(app, lens)
    session = backend.sessions["embedded"]
    edit = shift(session.model, layer=0)
    with acting_as(test.session_state["retouch"].owner):
        session.shelf.draft(edit)
    test.session_state["retouch"].turn_on(edit.id)
    return fine(test.run())


def test_what_the_edit_did_is_taken_apart_and_asks_for_an_edit_first(app: Run, fresh_backend: Any) -> None:
    test = inspect(app, "Attribution")
    fine(test.segmented_control(key="attribution-unit").set_value("edit").run())
    assert "Turn an edit on" in texts(test) and "edit-effect-run" not in {button.key for button in test.button}
    test = edited(app, fresh_backend, "Attribution")
    fine(test.segmented_control(key="attribution-unit").set_value("edit").run())
    fine(test.button(key="edit-effect-run").click().run())
    said = texts(settled(test))
    assert "edit-effect" in test.session_state["retouch"].kept, said
    found = test.session_state["retouch"].kept["edit-effect"].value
    assert "by looking elsewhere" in said and "of it" in said and "Fit an edit at head" in str([b.label for b in test.button])
    np.testing.assert_allclose(found.parts.sum(-1), found.after - found.before, atol=1e-9)
    fine(test.segmented_control(key="edit-effect-way").set_value("moved").run())
    assert "held to where it looks" in texts(test)


@pytest.mark.parametrize(
    ("lens", "button", "choice", "says"),
    [("Logit lens", "lens-run", "lens-lane", "less that in the base"),
     ("Patching", "patching-estimate", "patching-lane", "more than in the base"),
     ("Heads", "heads-run", "heads-lane", "to the base"), ("Nodes", "nodes-estimate", "nodes-lane", CHANGE)],
)  # fmt: skip
def test_the_difference_to_the_base_is_drawn_in_the_same_picture(
    app: Run, fresh_backend: Any, lens: str, button: str, choice: str, says: str
) -> None:
    test = edited(app, fresh_backend, lens)
    fine(test.button(key=button).click().run())
    plain = texts(settled(test))
    lanes = test.segmented_control(key=choice)
    assert says not in plain and lanes.options[-1].endswith(CHANGE) and len(lanes.options) == 3
    fine(lanes.set_value(2).run())
    assert says in texts(test)
