"""A teacher's link pins lesson and pages; the table tells who is where; a link of no class is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, texts
from workbench.lessons.lesson import PAGES


def _visit(**query: str) -> AppTest:
    test = AppTest.from_file(str(Path(__file__).with_name("travelling.py")), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return fine(test.run())


def test_a_class_is_made_followed_watched_and_begins_anew(app: Callable[..., AppTest], fresh_backend: Any) -> None:
    teacher = app("learn")
    fine(teacher.segmented_control(key="learn-view").set_value("Teach").run())
    assert "will stand here" in texts(teacher)
    fine(teacher.selectbox(key="class-lesson").set_value("stream").run())
    fine(teacher.multiselect(key="class-pages-stream").set_value(list(PAGES)).run())
    fine(teacher.button(key="class-make").click().run())
    learning = fresh_backend.sessions["embedded"].workspace.learning
    (link,) = learning.classes(teacher.session_state["retouch"].owner)
    assert link.id in teacher.code[0].value and "Nobody has followed" in texts(teacher)

    learner = _visit(**{"class": link.id})
    assert learner.session_state["retouch"].lesson == "stream" == link.lesson
    assert "Tokens and the residual stream" in texts(learner)
    fine(learner.text_input(key="lesson-name").set_value("Anna").run())
    fine(learner.button(key="lesson-hint").click().run())

    fine(teacher.run())
    (row,) = teacher.dataframe[0].value.to_dict("records")
    assert (row["learner"], row["where"], row["hints"]) == ("Anna", "step 1", 1)
    fine(teacher.button(key="class-reset-now").click().run())
    assert learning.steps(learner.session_state["retouch"].owner, "stream") == ()


def test_the_menu_of_a_class_has_its_pages_for_learners_alone(app: Callable[..., AppTest], fresh_backend: Any) -> None:
    from pages._ui.learn.classes import is_offered
    from workbench.workspace.learning import ClassLink

    app()
    one = ClassLink("x", "somebody", "lens", "embedded", ("Inspect",), 0.0)
    assert [title for title in ("Start", "Inspect", "Edit", "Learn") if is_offered(title, one)] == ["Inspect", "Learn"]
    assert is_offered("Edit", None) and is_offered("Edit", ClassLink("x", "somebody", "lens", "embedded", (), 0.0))


def test_a_link_of_no_class_is_told(app: Callable[..., AppTest]) -> None:
    app()
    learner = _visit(**{"class": "nowhere"})
    assert "No class 'nowhere'" in texts(learner) and learner.session_state["retouch"].classroom == ""
