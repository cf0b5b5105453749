"""The lesson that a person follows in this tab: where it stands, what was done since its step began, and the way to its start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import frame, jobs, loading, scope, words
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.backend import backend, session
from pages._ui.kit.methods import method
from pages._ui.kit.state import part, state, turn_to
from workbench.errors import RetouchError
from workbench.lessons.attempt import Attempt
from workbench.lessons.course import Course, course
from workbench.lessons.facts import met, value_of
from workbench.lessons.lesson import Lesson, LessonStep, StepStart
from workbench.resources import home

if TYPE_CHECKING:
    from workbench.workspace.learning import ClassLink, Learning, StepRecord


@dataclass
class Following:
    """What this tab knows of its lesson: the records of its steps, which step is looked at (None: the first that is not done), what *show
    me* presses, the class whose link was followed, and what could not be written."""

    of_tab = True

    lesson: str = ""
    records: dict[int, StepRecord] = field(default_factory=dict)
    at: int | None = None
    shows: tuple[object, ...] = ()
    n_shown: int = 0
    joined: ClassLink | None = None
    left: str = ""
    """The model that this tab was on before the lesson turned it to its own; empty if it did not."""
    error: Exception | None = None


def lessons() -> Course:
    """The course, with the lessons of this workspace."""
    return course(home())


def store() -> Learning | None:
    """Where progress is kept; None while nothing is open yet, or where the workspace cannot be opened, which the page says."""
    opened = backend().sessions.get("embedded") or session()
    if opened is None:
        return None
    try:
        return opened.workspace.learning
    except RetouchError:
        return None


def lesson_on() -> Lesson | None:
    """The lesson that is on, if there is one of that name, as it is done on this tab's model."""
    found = lessons().lessons.get(state().lesson)
    return None if found is None else found.on(state().model)


def follow(lesson: Lesson, at: int | None = None) -> None:
    """Turn a lesson on, at a step or the first that is not done, and go to its start: for callbacks."""
    mine, lesson = part(Following), lesson.on(state().model)
    state().lesson = mine.lesson = lesson.id
    mine.records, mine.at, mine.shows, mine.left = {}, at, (), ""
    if (learning := store()) is not None:
        mine.records = {one.step: one for one in learning.steps(state().owner, lesson.id)}
    go_to(lesson, lesson.steps[step_at(lesson)])


def leave() -> None:
    """Turn the lesson off; what was done is kept."""
    state().lesson = ""
    part(Following).shows = ()


def step_at(lesson: Lesson) -> int:
    """The step that is looked at. What was done is read anew each time: another tab may have gone on, and a teacher let all begin anew."""
    mine, learning = part(Following), store()
    if mine.lesson != lesson.id:  # a link, or a reload
        mine.lesson, mine.at, mine.shows, mine.records, mine.left = lesson.id, None, (), {}, ""
    if learning is not None:
        found = {one.step: one for one in learning.steps(state().owner, lesson.id)}
        if mine.records.keys() - found.keys():  # forgotten meanwhile
            mine.at, mine.shows = None, ()
        mine.records = found
    if mine.at is not None and mine.at < len(lesson.steps):
        return mine.at
    undone = (i for i in range(len(lesson.steps)) if i not in mine.records or mine.records[i].done is None)
    return next(undone, len(lesson.steps) - 1)


def record(lesson: Lesson, at: int, learning: Learning) -> StepRecord:
    """The record of a step; its time begins when it is first looked at."""
    mine = part(Following)
    mine.at = at  # who has done it stays, to see what they did
    if at not in mine.records:
        mine.records[at] = learning.begin(state().owner, lesson.id, at)
        if any(condition.reading.fact.startswith("scope.") for condition in lesson.steps[at].check):
            scope.clear()  # what was picked before is no answer
    return mine.records[at]


def note(learning: Learning, one: StepRecord, **told_of_it: Any) -> None:
    """Write down what happened at a step, and read it again. A workspace that refuses is told in the panel, until it takes something."""
    mine = part(Following)
    try:
        learning.note(one, **told_of_it)
        mine.records[one.step] = next((new for new in learning.steps(one.person, one.lesson) if new.step == one.step), one)
    except RetouchError as error:
        mine.error = error
    else:
        mine.error = None


def attempt(lesson: Lesson, one: StepRecord) -> Attempt:
    """What this person did since the step began, on a model of the lesson; earlier results, and others', are not in it."""
    kept = {name: value for name, value in (one.facts or {}).items() if value is not None}
    if not lesson.runs_on(state().model):
        return Attempt(kept=kept)
    mine = part(Following)
    first = min((known.began for known in mine.records.values()), default=one.began)
    earlier = jobs.since(first)
    fresh = {name: found for name, found in earlier.items() if found.asked >= one.began}
    made = {str((known.facts or {}).get("edit", "")) for known in mine.records.values()}
    made |= {_edit(found.value) for found in earlier.values()}
    return Attempt(
        results={name: found.value for name, found in fresh.items()},
        settings={name: found.settings for name, found in fresh.items()},
        earlier={name: found.value for name, found in earlier.items()},
        scope=tuple(scope.picked()),
        edits=frozenset(made - {""}),
        kept=kept,
    )


def _edit(value: Any) -> str:
    """The id of the edit that a result made, empty if it made none."""
    fitted: Any = getattr(value, "fitted", None)
    return "" if fitted is None else str(fitted.edit.id)


def evidence(step: LessonStep, now: Attempt) -> Mapping[str, Any]:
    """What a step was passed with: the facts that it asks for, and the edit that was made."""
    found: dict[str, Any] = {str(reading): value_of(now, reading) for reading in step.readings}
    edits = [_edit(value) for value in now.results.values()]
    return found | {"edit": next((edit for edit in edits if edit), "")}


def has_passed(step: LessonStep, one: StepRecord, now: Attempt) -> bool:
    """Whether what was done since the step began is what it asks for, now or once before."""
    return one.done is not None or bool(one.facts) or met(now, step.check)


def go_to(lesson: Lesson, step: LessonStep, *, shown: bool = False) -> None:
    """Set what the step begins with (`shown`: what *show me* begins with), as its link would, and go to its page: for callbacks.

    Nothing is run. A method or a knob that a teacher's lesson names and that does not exist is told in the panel.
    """
    start = step.shown if shown and step.shown is not None else step.start
    now, mine = state(), part(Following)
    if not lesson.runs_on(now.model):
        mine.left = now.model
        turn_to_model(lesson.model)
    now.set_name, mine.error = start.set or now.set_name, None
    try:
        _hand_form(start)
    except RetouchError as error:
        mine.error = error
    st.session_state.update(start.controls)
    frame.ask_for(start.page)


def _hand_form(start: StepStart) -> None:
    """Give the whole form of a method to Edit, so that nothing is left in it of an earlier step.

    Raises:
        UnknownMethod, UnknownKnob, BadKnob: the lesson names what does not exist.
    """
    if not start.method:
        return
    from workbench.knobs import as_json

    known = method(start.method)
    said = words.listed([f"{name.replace('_', ' ')} = {value}" for name, value in start.knobs.items()]) or known.title
    scope.hand_knobs(start.method, as_json(known.configure(dict(start.knobs))), "the lesson", said=said)


def turn_to_model(name: str) -> None:
    """Put the tab on a model; one that is not in memory is loaded, and turned to once it is there."""
    if name in backend().sessions:
        turn_to(name)
    else:
        loading.load(AskedModel(name))


def show(lesson: Lesson, step: LessonStep) -> None:
    """Go to the step's start, and let the browser press there what a person would: for callbacks."""
    mine = part(Following)
    go_to(lesson, step, shown=True)
    mine.n_shown += 1
    mine.shows = (int(time.time() * 1000) + mine.n_shown, *step.press)
