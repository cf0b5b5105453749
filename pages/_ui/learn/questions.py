"""A step's question, whose wrong answers are answered out of the learner's own run; and the box for what they saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit.words import plain
from pages._ui.learn import following
from workbench.lessons.facts import filled_in, holds
from workbench.lessons.lesson import AnswerOption, Claim

if TYPE_CHECKING:
    from workbench.lessons.attempt import Attempt
    from workbench.lessons.lesson import LessonStep
    from workbench.workspace.learning import Learning, StepRecord

RIGHT = "right"
"""What a record's answer begins as once the question is answered rightly."""


def is_right(answer: AnswerOption, now: Attempt) -> bool:
    """Whether an answer is right, where it depends of the learner's own work."""
    return holds(now, answer.right) if isinstance(answer.right, Claim) else answer.right


def draw(learning: Learning, step: LessonStep, one: StepRecord, now: Attempt) -> None:
    """The question and its answers; what was answered wrongly is answered from the run."""
    question = step.question
    if question is None:
        return
    st.markdown(f"**{question.ask}**")
    st.radio(
        "Your answer", range(len(question.answers)), index=None, key=_key(one), label_visibility="collapsed", on_change=_take,
        args=(learning, step, one, now), format_func=lambda i: question.answers[i].say,
    )  # fmt: skip
    said = next((answer for answer in question.answers if answer.say == one.answer), None)
    if said is not None:
        st.markdown(f":orange[:material/help:] {plain(filled_in(said.reply, now))}")


def _key(one: StepRecord) -> str:
    return f"lesson-answer-{one.lesson}-{one.step}"


def _take(learning: Learning, step: LessonStep, one: StepRecord, now: Attempt) -> None:
    """Note the answer that was chosen; a wrong one is kept in its own words, for whoever teaches."""
    at = st.session_state.get(_key(one))
    if at is None or step.question is None:
        return
    answer = step.question.answers[at]
    if is_right(answer, now):
        following.note(learning, one, answer=RIGHT)
    else:
        following.note(learning, one, answer=answer.say, wrong=one.wrong + 1)


def answered(step: LessonStep, now: Attempt) -> None:
    """What the right answer is, and why."""
    if step.question is None:
        return
    right = next((answer for answer in step.question.answers if is_right(answer, now)), None)
    if right is not None:
        st.caption(f"{step.question.ask} {right.say.rstrip('.')}. {plain(filled_in(right.reply, now))}")


def seen(learning: Learning, step: LessonStep, one: StepRecord) -> None:
    """The box for what the learner saw; it is kept when they leave it."""
    key = f"lesson-saw-{one.lesson}-{one.step}"
    if key not in st.session_state:
        st.session_state[key] = one.saw
    said: Any = st.text_area(step.saw or "What did you see?", key=key, height=68, placeholder="In your own words; it is kept.")
    if said != one.saw:
        following.note(learning, one, saw=str(said))
