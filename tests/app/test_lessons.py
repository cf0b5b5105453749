"""The lesson that travels: begun on Learn, beside every page, ticked by what this person ran since the step began and by nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import another_tab, fine, settled, texts

LESSON = """
id: own
title: A lesson of a teacher
minutes: 3
about: It is about one thing.
can: do that thing.
only: It is about its words.
steps:
  - task: Read the word.
    idea: A model reads. Then it writes.
    start: {page: Inspect, controls: {inspect-prompt: w1 w2, inspect-lens: Logit lens}}
    press: [lens-run]
    hints: [Look at the page., Press the button.]
    check: [lens.prompt has w2]
    question:
      ask: How many tokens are there?
      answers:
        - {say: none, reply: "You had {lens.tokens}."}
        - {say: two, right: true, reply: "You had {lens.tokens}."}
  - task: Put a head into the scope.
    idea: A head looks. It is one of several.
    start: {page: Inspect}
    press: [heads-scope-add]
    hints: [Look at the foot., Press the button.]
    check: [scope.heads >= 1]
"""


@pytest.fixture
def learn(app: Callable[..., AppTest], fresh_backend: Any) -> AppTest:
    """The page Learn, with a teacher's own lesson in the workspace."""
    folder = _folder()
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(LESSON, encoding="utf-8")
    app()
    return fine(AppTest.from_file(str(Path(__file__).with_name("travelling.py")), default_timeout=60).run())


def _on(test: AppTest, page: str) -> AppTest:
    """The tab on a page, as the menu goes there."""
    test.session_state["at-page"] = page
    return fine(test.run())


def _folder() -> Path:
    from workbench.resources import home

    return home() / "lessons"


def _begun(test: AppTest) -> AppTest:
    """The lesson begun: the tab lands on its page."""
    return fine(test.button(key="learn-own").click().run())


def _read(test: AppTest, prompt: str = "w1 w2") -> AppTest:
    test.text_area(key="inspect-prompt").set_value(prompt).run()
    return settled(fine(test.button(key="lens-run").click().run()))


def test_a_lesson_is_begun_travels_asks_and_ends(learn: AppTest) -> None:
    test = _begun(learn)
    assert test.title[0].value == "Inspect" and "Read the word." in texts(test)
    assert "Done" not in texts(test)
    test = _read(test)
    assert "by your own run" in texts(test) and "How many tokens are there?" in texts(test)
    fine(test.radio(key="lesson-answer-own-0").set_value(0).run())
    assert "You had 2" in texts(test), "a wrong answer is answered from the learner's own run"
    fine(test.radio(key="lesson-answer-own-0").set_value(1).run())
    fine(test.text_area(key="lesson-saw-own-0").set_value("two of them").run())
    # It goes along.
    _on(test, "Compare")
    assert "Read the word." in texts(test)
    fine(test.button(key="lesson-next").click().run())
    assert "Put a head into the scope." in texts(test)
    test.button(key="lesson-leave").click().run()
    assert "Put a head into the scope." not in texts(fine(test))


def test_what_was_run_before_the_step_began_is_no_answer(learn: AppTest) -> None:
    test = _read(_on(learn, "Inspect"))
    time.sleep(0.02)
    test = _begun(_on(test, "Learn"))
    assert "by your own run" not in texts(test) and "Not yet" not in texts(test)
    test = settled(fine(test.button(key="lens-run").click().run()))
    assert "by your own run" in texts(test)


def test_a_wrong_attempt_is_told_what_it_was(learn: AppTest) -> None:
    test = _read(_begun(learn), "w1 w3")
    assert "by your own run" not in texts(test)
    assert re.search(r"Not yet\. The prompt is w1 ?w3; something with w2 is asked for", texts(test).replace("\\", ""))


def test_the_scope_of_before_is_no_answer_and_a_head_picked_now_is(learn: AppTest) -> None:
    from pages._ui.kit import scope, state

    test = learn
    test.session_state["retouch"].bench.parts["Scope"] = scope.Scope(frozenset({"0.1"}))
    test = _read(_begun(test))
    fine(test.radio(key="lesson-answer-own-0").set_value(1).run())
    fine(test.button(key="lesson-next").click().run())
    assert "Put a head" in texts(test) and "by your own run" not in texts(test)
    test.session_state["retouch"].bench.parts["Scope"].picked = frozenset({"0.1"})
    assert "by your own run" in texts(fine(test.run()))
    assert state.FIRST == "embedded"


def test_another_persons_run_and_steps_are_not_mine(learn: AppTest) -> None:
    test = _read(_begun(learn))
    assert "by your own run" in texts(test)
    other = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "app.py"), default_timeout=60)
    other.query_params["lesson"] = "own"
    other.query_params["jobs"] = test.query_params.get("jobs", [""])[0] if "jobs" in test.query_params else ""
    fine(other.run())
    assert "Read the word." in texts(other) and "by your own run" not in texts(other)


@pytest.mark.parametrize("is_mine", [True, False])
def test_the_same_result_passes_a_step_of_the_person_whose_job_it_was_alone(learn: AppTest, fresh_backend: Any, is_mine: bool) -> None:
    test, session = _begun(learn), fresh_backend.sessions["embedded"]
    owner = test.session_state["retouch"].owner if is_mine else "somebody else"
    work: Callable[[Any], Any] = lambda progress: session.look("logit_lens", "w1 w2")  # noqa: E731
    job = fresh_backend.jobs.submit(work, title="Reading", owner=owner, kind="logit_lens")
    assert job.wait(60)
    test.session_state["retouch"].bench.slots["logit_lens"] = job.id  # a link may name any job
    assert ("by your own run" in texts(fine(test.run()))) is is_mine


def test_progress_is_there_in_another_tab_and_as_csv(learn: AppTest) -> None:
    test = _read(_begun(learn))
    fine(test.radio(key="lesson-answer-own-0").set_value(1).run())
    new = another_tab(test)
    fine(new.run())
    fine(new.switch_page("pages/learn.py").run())
    assert "1 of 2 steps done" in texts(new)
    fine(new.segmented_control(key="learn-view").set_value("What I did").run())
    rows = new.dataframe[0].value
    assert list(rows["lesson"])[:1] == ["own"] and rows["answer"].iloc[0] == "right"


def test_hints_come_one_by_one_and_show_me_names_the_buttons(learn: AppTest) -> None:
    test = _begun(learn)
    assert "Look at the page." not in texts(test)
    fine(test.button(key="lesson-hint").click().run())
    assert "Look at the page." in texts(test) and "Press the button." not in texts(test)
    fine(test.button(key="lesson-hint").click().run())
    assert "Press the button." in texts(test)
    fine(test.button(key="lesson-show").click().run())
    number, *keys = test.session_state["retouch"].tab.parts["Following"].shows
    assert isinstance(number, int) and keys == ["lens-run"]


def test_on_another_model_the_lesson_says_why_not_and_turns_the_tab_by_one_click(learn: AppTest, fresh_backend: Any) -> None:
    fresh_backend.sessions["other"] = fresh_backend.sessions["embedded"]
    assert "It is about its words." not in texts(_begun(learn)), "on its own model there is nothing to say"
    for _ in range(2):  # turned from another one since the lesson was begun
        learn.session_state["retouch"].model = "other"
        told = texts(fine(learn.run()))
        assert "done on embedded. It is about its words. What is done on other does not count." in told
        assert "by your own run" not in texts(_read(learn)), "a run on the other model"
        fine(learn.button(key="lesson-model").click().run())
        assert learn.session_state["retouch"].model == "embedded" and "You were on other." in texts(learn)
    assert "by your own run" in texts(_read(learn))
    fine(learn.button(key="lesson-leave").click().run())
    fine(_on(learn, "Learn").button(key="learn-own").click().run())
    assert "You were on other." not in texts(learn)


def test_a_broken_file_is_named_and_the_others_are_there(learn: AppTest) -> None:
    (_folder() / "bad.yaml").write_text("id: x\ntitel: y\n", encoding="utf-8")
    fine(learn.run())
    assert "bad.yaml, line 2" in texts(learn) and "titel" in texts(learn)
    assert "A lesson of a teacher" in texts(learn)


def test_a_word_is_found_with_its_sentence_and_leads_to_its_lesson(learn: AppTest) -> None:
    from pages._ui.kit.glossary import TERMS

    fine(learn.segmented_control(key="learn-view").set_value("Words").run())
    assert TERMS["placebo"] in texts(learn) and TERMS["attention"] in texts(learn)
    fine(learn.text_input(key="glossary-find").set_value("random edit of").run())
    assert TERMS["placebo"] in texts(learn) and TERMS["attention"] not in texts(learn)
    fine(learn.button(key="glossary-placebo").click().run())
    assert "why a placebo matters" in texts(learn) and learn.session_state["at-page"] == "Edit"
