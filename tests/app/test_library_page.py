"""Library: what is deleted lies in the bin, and one click never deletes two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, texts
from tests.app.test_pages import fitted
from tests.conftest import contrast_rows

Run = Callable[..., AppTest]


def test_a_second_click_in_the_same_place_meets_no_other_edit(app: Run, fresh_backend: Any) -> None:
    fitted(app, fresh_backend)
    session = fresh_backend.sessions["embedded"]
    kept = [session.save_edit(session.fit("mean_difference", contrast_rows(), {"strength": s}).edit, f"edit {s}").id for s in (0.5, 1.0)]
    test = fine(app("library"))
    fine(test.selectbox(key="library-edit").set_value(kept[0]).run())
    fine(test.button(key=f"delete-{kept[0]}").click().run())
    assert not any(str(button.key).startswith("delete-") for button in test.button), "nothing is chosen after a deletion"
    assert [item.id for item in session.edits()] == [kept[1]]


def test_edits_and_sets_are_put_back_from_the_bin(app: Run, fresh_backend: Any) -> None:
    fitted(app, fresh_backend)
    session = fresh_backend.sessions["embedded"]
    edit = session.save_edit(session.fit("mean_difference", contrast_rows()).edit, "mine").id
    session.workspace.edits.delete(edit)
    chosen = session.workspace.sets.save(contrast_rows()).id
    session.demos.delete(chosen)
    test = fine(app("library"))
    assert "Edit mine" in texts(test)
    fine(test.button(key=f"restore-{edit}").click().run())
    fine(test.button(key=f"restore-{chosen}").click().run())
    assert [item.id for item in session.edits()] == [edit] and chosen in {info.id for info in session.demos.list()}
    assert not session.workspace.edits.deleted() and not session.workspace.sets.deleted()
