"""The lesson beside every page: its task, its hints, whether it is done, the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.glossary import tip
from pages._ui.kit.state import part, state
from pages._ui.kit.words import plain
from pages._ui.learn import classes, following, questions
from pages._ui.learn.following import Following
from workbench.lessons.facts import not_yet

if TYPE_CHECKING:
    from workbench.lessons.attempt import Attempt
    from workbench.lessons.lesson import Lesson, LessonStep
    from workbench.workspace.learning import Learning, StepRecord


def shows() -> tuple[object, ...]:
    """What the browser presses to show the step: a number that is new each time, and keys of buttons."""
    return part(Following).shows


def beside(title: str, page: Callable[[], None]) -> None:
    """Draw a page, and beside it, on a narrow screen above it, the lesson that is on."""
    lesson = following.lesson_on()
    if lesson is None:
        page()
        return
    with st.container(key="with-lesson"):
        panel, whole = st.columns([2, 7], gap="large")
    with whole:
        page()
    with panel, st.container(border=True, key="lesson"):
        _panel(lesson, title)


def _panel(lesson: Lesson, title: str) -> None:
    learning = following.store()
    if learning is None:
        st.caption(f"{lesson.title}: the lesson begins once the model is there.")
        return
    at = following.step_at(lesson)
    one = following.record(lesson, at, learning)
    now = following.attempt(lesson, one)
    step = lesson.steps[at]
    passed = following.has_passed(step, one, now)
    if passed and not one.facts:
        following.note(learning, one, facts=following.evidence(step, now))
        one = part(Following).records[at]
    if passed and one.done is None and (step.question is None or one.answer == questions.RIGHT):
        following.note(learning, one, done=True)
        one = part(Following).records[at]
    _head(lesson, at)
    _model(lesson, step)
    if state().classroom:
        classes.name_of(learning)
    st.markdown(f"**{step.task}**")
    st.markdown(step.idea, help=tip(step.idea))
    if not passed and title != step.start.page:
        label = f"Go to {step.start.page}"
        st.button(label, key="lesson-go", type="primary", on_click=following.go_to, args=(lesson, step), width="stretch")
    _state(step, one, now, passed=passed)
    if not passed:
        _hints(lesson, step, one, learning)
    elif one.done is None:
        questions.draw(learning, step, one, now)
    else:
        questions.answered(step, now)
        questions.seen(learning, step, one)
    _foot(lesson, at, one)
    if (error := part(Following).error) is not None:
        frame.problem(error, "lesson")


def _head(lesson: Lesson, at: int) -> None:
    records = part(Following).records
    done = [i in records and records[i].done is not None for i in range(len(lesson.steps))]
    st.markdown(f":primary[{plain(lesson.title)}]")
    dots = "".join(f'<i class="{"done" if is_done else ""} {"now" if i == at else ""}"></i>' for i, is_done in enumerate(done))
    with st.container(horizontal=True, vertical_alignment="center", key="lesson-head"):
        st.html(f'<div class="steps">{dots}<span>Step {at + 1} of {len(done)}</span></div>', width="content")
        st.button("Leave", key="lesson-leave", type="tertiary", on_click=following.leave, help="What you have done is kept.")


def _model(lesson: Lesson, step: LessonStep) -> None:
    """On which model the lesson is done, where this tab is on another, or was until the lesson turned it."""
    mine, here = part(Following), state().model
    if not lesson.runs_on(here):
        st.markdown(f":orange[:material/swap_horiz:] {_done_on(lesson)} What is done on {plain(here)} does not count.")
        st.button(f"Turn to {lesson.model}", key="lesson-model", on_click=following.go_to, args=(lesson, step), width="stretch")
    elif mine.left:
        st.caption(f"You were on {plain(mine.left)}. {_done_on(lesson)}")


def _done_on(lesson: Lesson) -> str:
    return f"This lesson is done on {' or '.join([lesson.model, *lesson.real])}. {lesson.only}".rstrip()


def _state(step: LessonStep, one: StepRecord, now: Attempt, *, passed: bool) -> None:
    """Whether it is done; else what of it was done and is not enough."""
    if passed:
        left = " One question is left." if one.done is None and step.question is not None else ""
        st.markdown(f":green[:material/check_circle: **Done**, by your own run.]{left}")
        return
    for told in not_yet(now, step):
        st.markdown(f":orange[:material/pending:] Not yet. {plain(told)}")


def _hints(lesson: Lesson, step: LessonStep, one: StepRecord, learning: Learning) -> None:
    """A nudge, then a suggestion, then the controls themselves are pressed."""
    for hint in step.hints[: one.hints]:
        st.caption(hint)
    with st.container(horizontal=True):
        if one.hints < len(step.hints):
            st.button("Hint", key="lesson-hint", icon=":material/lightbulb:", on_click=_climb, args=(learning, one))
        st.button(
            "Show me", key="lesson-show", icon=":material/play_circle:", type="tertiary", on_click=_show,
            args=(lesson, step, one, learning), help="Presses the page's own buttons for you.",
        )  # fmt: skip


def _climb(learning: Learning, one: StepRecord) -> None:
    following.note(learning, one, hints=one.hints + 1)


def _show(lesson: Lesson, step: LessonStep, one: StepRecord, learning: Learning) -> None:
    following.note(learning, one, hints=3)
    following.show(lesson, step)


def _foot(lesson: Lesson, at: int, one: StepRecord) -> None:
    last = at == len(lesson.steps) - 1
    if one.done is not None and last:
        st.markdown(f":material/flag: **Now you can:** {lesson.can}")
        after = following.lessons().after(lesson.id)
        if after is not None and not state().classroom:
            st.button(f"Next: {after.title}", key="lesson-after", type="primary", on_click=following.follow, args=(after,), width="stretch")
        st.button("All lessons", key="lesson-all", on_click=frame.ask_for, args=("Learn",), width="stretch")
    elif one.done is not None:
        st.button("Next step", key="lesson-next", type="primary", on_click=_step, args=(lesson, at + 1), width="stretch")
    if at:
        st.button("Back one step", key="lesson-back", type="tertiary", icon=":material/arrow_back:", on_click=_step, args=(lesson, at - 1))


def _step(lesson: Lesson, at: int) -> None:
    mine = part(Following)
    mine.at, mine.shows = at, ()
    following.go_to(lesson, lesson.steps[at])
