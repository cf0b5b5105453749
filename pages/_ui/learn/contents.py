"""The course: a row a lesson, how far one is in it, and the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.glossary import KNOWN, tip
from pages._ui.kit.state import state
from pages._ui.kit.words import count, markdown, plain
from pages._ui.learn import following

if TYPE_CHECKING:
    from workbench.lessons.lesson import Lesson
    from workbench.session import Session
    from workbench.workspace.learning import Learning


def lessons(session: Session) -> None:
    """Every lesson in order; what is wrong with files that are none stands below."""
    learning, found = session.workspace.learning, following.lessons()
    done = learning.n_done(state().owner)
    frame.meaning("Each lesson is done on the real pages: a panel goes along with you, and ticks what your own runs show.", "learn")
    first = next((one.id for one in found.lessons.values() if done.get(one.id, 0) < len(one.steps)), "")
    for i, lesson in enumerate(found.lessons.values()):
        _row(learning, lesson, i, done.get(lesson.id, 0), is_next=lesson.id == first)
    for i, problem in enumerate(found.problems):
        frame.problem(problem, f"lesson-{i}")


def glossary(session: Session) -> None:
    """Every technical word: one sentence, at most one formula, and the lesson that explains it."""
    sought = st.text_input("Find a word", key="glossary-find", placeholder="as placebo").strip().casefold()
    found = following.lessons().lessons
    for term, one in KNOWN.items():
        if sought not in term.casefold() and sought not in one.says.casefold():
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            formula = f" `{one.formula}`" if one.formula else ""
            with st.container(width="stretch"):  # a long text by itself would push its button below it
                st.markdown(f"**{plain(term)}** {markdown(one.says)}{formula}")
            if one.lesson in found:
                lesson, key = found[one.lesson], f"glossary-{term.replace(' ', '-')}"
                st.button("Lesson", key=key, type="tertiary", on_click=following.follow, args=(lesson,), help=plain(lesson.title))


def _row(learning: Learning, lesson: Lesson, number: int, n_done: int, *, is_next: bool) -> None:
    n = len(lesson.steps)
    with st.container(border=True, key=f"course-{lesson.id}"), st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch"):
            sign = ":green[:material/check_circle:] " if n_done == n else ""
            st.markdown(f"{sign}**{f'{number}. ' if number else ''}{plain(lesson.title)}**")
            far = f"{n_done} of {count(n, 'step')} done" if n_done else count(n, "step")
            st.caption(f"{lesson.about} {lesson.minutes} minutes · {far}", help=tip(lesson.about))
        if n_done == n:
            st.button("Begin again", key=f"again-{lesson.id}", type="tertiary", on_click=_again, args=(learning, lesson))
            st.button("Look back", key=f"learn-{lesson.id}", on_click=following.follow, args=(lesson, 0))
        else:
            verb, kind = ("Go on" if n_done else "Begin"), ("primary" if is_next else "secondary")
            st.button(verb, key=f"learn-{lesson.id}", type=kind, on_click=following.follow, args=(lesson,))


def _again(learning: Learning, lesson: Lesson) -> None:
    learning.forget(state().owner, lesson.id)
    following.follow(lesson)
