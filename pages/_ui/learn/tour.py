"""The tour that is offered to who is here for the first time; it is a lesson, and travels as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.state import state
from pages._ui.learn import following

if TYPE_CHECKING:
    from workbench.workspace.learning import Learning

TOUR = "tour"


def offer() -> None:
    """Offer the tour to who has begun no lesson and has not said no."""
    learning, lesson = following.store(), following.lessons().lessons.get(TOUR)
    if learning is None or lesson is None or state().lesson or not learning.is_new(state().owner):
        return
    with st.container(border=True, key="tour"):
        st.markdown(f"**New here?** {lesson.about} It takes two minutes, on the real pages.")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Take the tour", key="tour-begin", icon=":material/tour:", on_click=following.follow, args=(lesson,))
            st.button("Not now", key="tour-skip", type="tertiary", on_click=_skip, args=(learning,), help="It stays first on Learn.")


def _skip(learning: Learning) -> None:
    learning.call(state().owner, "")
