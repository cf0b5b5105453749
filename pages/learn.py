"""What can I learn here by doing it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.learn import classes, contents, mine

if TYPE_CHECKING:
    from workbench.session import Session

VIEWS = {"Lessons": contents.lessons, "What I did": mine.progress, "Words": contents.glossary, "Teach": classes.teach}


def main(session: Session) -> None:
    """The course, and what this person did in it."""
    view = st.segmented_control(
        "View", list(VIEWS), default="Lessons", key="learn-view", required=True, label_visibility="collapsed", persist_state="session"
    )
    VIEWS[view or "Lessons"](session)


frame.page("Learn", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
