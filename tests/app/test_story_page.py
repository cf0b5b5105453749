"""An edit's own page: verdict, harmed rows, texts, spectra and origin in one place, under the name that it has now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_pages import fitted
from tests.conftest import contrast_rows
from workbench.workspace.people import acting_as
from workbench.workspace.story import EditStory, edit_story

Run = Callable[..., AppTest]


def story(test: AppTest) -> AppTest:
    return fine(test.switch_page("pages/story.py").run())


def on_record(backend: Any, test: AppTest, edit: str) -> EditStory:
    """What is on record of an edit of this tab's person."""
    session = backend.sessions["embedded"]
    with acting_as(test.session_state["retouch"].owner):
        return edit_story(session.shelf, session.workspace, edit)


def test_everything_about_a_fit_stands_in_one_place(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    fine(test.button(key="fit-story").click().run())
    test = story(test)
    found = on_record(fresh_backend, test, edit)
    assert found.made is not None and found.measured and not found.compared and found.info is None
    said = texts(test).replace("\\", "")
    sentence = str(found.measured[0].outputs["verdict"]["sentence"]).replace("*", "")
    assert sentence[:20] in said.replace("*", "") and "moved the wrong way" in said and "No comparison with it is on record" in said
    origin = next(item.value for item in test.dataframe if list(item.value.columns) == ["what", "value"])
    assert dict(zip(origin["what"], origin["value"]))["run"] == found.made.id
    fine(test.button(key="story-say").click().run())
    said = texts(fine(settled(test).run()))
    assert "From a comparison" in said and on_record(fresh_backend, test, edit).compared
    fine(test.button(key="story-measure").click().run())
    fine(settled(test).run())
    assert len(on_record(fresh_backend, test, edit).measured) == 2


def test_a_renamed_edit_has_its_name_everywhere(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    session, edit = fresh_backend.sessions["embedded"], test.session_state["retouch"].edit
    with acting_as(test.session_state["retouch"].owner):
        saved = session.save_edit(session.load_edit(edit).dosed(2.0), "first name").id
    assert saved != edit, "another dose of a fit is another saved edit"
    test.session_state["retouch"].edit = saved
    test = story(test)
    test.text_input(key=f"story-name-{saved}").input("second name")
    fine(test.button(key="story-rename").click().run())
    assert "second name" in texts(test) and "first name" not in texts(test)
    test.session_state["retouch"].turn_on(edit, 2.0)
    for page in ("library", "evaluate", "compare"):
        fine(test.switch_page(f"pages/{page}.py").run())
        options = [str(option) for box in (*test.selectbox, *test.multiselect) for option in box.options]
        assert any("second name" in option for option in options) and not any("first name" in option for option in options)


def test_a_link_to_an_edit_that_is_gone_says_so_and_an_empty_workspace_leads_on(app: Run, fresh_backend: Any) -> None:
    test = story(app("start"))
    assert "will stand here" in texts(test)
    session = fresh_backend.sessions["embedded"]
    session.save_edit(session.fit("mean_difference", contrast_rows()).edit, "mine")
    test.session_state["retouch"].edit = "deadbeef"
    said = texts(fine(test.run()))
    assert "is not here" in said and "What it does" not in said


def test_an_edit_of_somebody_else_tells_where_it_came_from_and_not_whose_runs(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    session, edit = fresh_backend.sessions["embedded"], test.session_state["retouch"].edit
    with acting_as(test.session_state["retouch"].owner):
        session.save_edit(edit, "shared")
    with acting_as("somebody else"):
        found = edit_story(session.shelf, session.workspace, edit)
    assert found.made is not None and found.made.outputs["edit"] == edit and not found.measured
