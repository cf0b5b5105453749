"""A teacher's link pins lesson and pages; the table tells who is where; a link of no class is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import ROOT, fine, texts
from workbench.errors import StorageFailed
from workbench.lessons.course import OWN, course
from workbench.lessons.lesson import PAGES
from workbench.resources import home
from workbench.workspace.learning import Learning


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


def _address(**query: str) -> AppTest:
    """A visit of the app itself, on its first page."""
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return fine(test.run())


def test_a_page_that_the_class_does_not_have_does_not_open_by_its_address(app: Callable[..., AppTest], fresh_backend: Any) -> None:
    app()
    learning = fresh_backend.sessions["embedded"].workspace.learning
    few, all_of_them = (learning.new_class("teacher", "lens", "embedded", pages) for pages in (["Inspect", "Learn"], []))
    learner = _address(**{"class": few.id})
    assert "not offered in this class" in texts(learner) and "tour-begin" not in {item.key for item in learner.button}
    assert {item.proto.label for item in learner.get("page_link")} == {"Inspect", "Learn"}
    assert "not offered" not in texts(_address(**{"class": all_of_them.id})) and "not offered" not in texts(_address())


def test_who_is_let_begin_anew_stands_at_the_beginning_in_the_open_tab_too(app: Callable[..., AppTest], fresh_backend: Any) -> None:
    app()
    learning = fresh_backend.sessions["embedded"].workspace.learning
    link = learning.new_class("teacher", "stream", "embedded", PAGES)
    learner = _visit(**{"class": link.id})
    owner = learner.session_state["retouch"].owner
    first, second = (course().lessons["stream"].steps[i].task for i in (0, 1))
    learning.note(learning.steps(owner, "stream")[0], facts={"lens.tokens": 4}, done=True)
    fine(learner.run())
    fine(learner.button(key="lesson-next").click().run())
    assert second in texts(learner) and first not in texts(learner)
    assert second in texts(fine(learner.run())), "what nobody reset stays where it is"
    learning.reset(link)
    assert first in texts(fine(learner.run())) and "Done" not in texts(learner)
    assert [one.step for one in learning.steps(owner, "stream")] == [0]


def test_what_the_workspace_refused_is_told_until_it_takes_something(app: Callable[..., AppTest], monkeypatch: Any) -> None:
    app()
    learner = _visit(lesson="stream")
    kept = Learning.note

    def full(*_: Any, **__: Any) -> None:
        raise StorageFailed("The disk is full.", "Make room.")

    monkeypatch.setattr(Learning, "note", full)
    fine(learner.button(key="lesson-hint").click().run())
    assert "The disk is full." in texts(learner)
    monkeypatch.setattr(Learning, "note", kept)
    fine(learner.button(key="lesson-hint").click().run())
    assert "The disk is full." not in texts(learner)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Learning, "note", broken)
    learner.button(key="lesson-hint").click().run()
    assert learner.exception or "did not foresee" in texts(learner), "a mistake of ours is not told as the workspace's"


@pytest.mark.parametrize(
    ("start", "told"),
    [("method: elephant", "elephant"), ("method: sea, knobs: {trunk: 1}", "trunk"), ("method: sea, knobs: {keep: 7}", "keep")],
)
def test_a_form_that_a_teachers_lesson_gets_wrong_is_told_in_the_panel(app: Callable[..., AppTest], start: str, told: str) -> None:
    app()
    folder = home() / OWN
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(PLAIN.replace("START", start), encoding="utf-8")
    learner = _visit()
    fine(learner.button(key="learn-own").click().run())
    assert told in texts(learner) and "Fit it." in texts(learner) and learner.title[0].value == "Edit"


PLAIN = """
id: own
title: Own
minutes: 5
about: About.
can: do it.
steps:
  - task: Fit it.
    idea: One. Two.
    start: {page: Edit, START}
    press: [fit]
    hints: [a, b]
    check: [fit.method = sea]
"""


def test_a_link_of_no_class_is_told(app: Callable[..., AppTest]) -> None:
    app()
    learner = _visit(**{"class": "nowhere"})
    assert "No class 'nowhere'" in texts(learner) and learner.session_state["retouch"].classroom == ""


@pytest.mark.parametrize(("address", "is_alone"), [("http://127.0.0.1:8501/learn", True), ("http://lab-3:8501/learn", False), ("", False)])
def test_a_teacher_is_told_where_a_link_leads_to_this_machine_alone(address: str, is_alone: bool) -> None:
    from pages._ui.learn.classes import _reached

    assert ("this machine alone" in _reached(address)) is is_alone and ("--class" in _reached(address)) is is_alone
