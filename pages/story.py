"""What is this edit, what does it do, and where did it come from?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.kit.lanes import known_edits
from pages._ui.kit.state import state
from pages._ui.story import panels

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """Everything about one edit; the link says which."""
    now, saved = state(), {item.id: item.name for item in session.edits()}
    known = {**known_edits(session), **saved}
    if not known:
        with frame.empty("The story of an edit will stand here: what it does, whom it harms, where it came from.", key="story"):
            st.page_link("pages/edit.py", label="Fit an edit", icon=":material/tune:")
        return
    if now.edit and now.edit not in known:
        frame.empty("The edit that the link names is not here: nobody saved it, or it was deleted.", "Choose another below.", key="gone")
    options = list(known)
    st.session_state["story-edit"] = now.edit if now.edit in known else None
    with st.container(key="story-picker"):
        edit = st.selectbox(
            "Edit", options, index=None, format_func=lambda key: known[key], key="story-edit", placeholder="Choose an edit",
            on_change=_turn, label_visibility="collapsed",
        )  # fmt: skip
    if edit is not None:
        panels.draw(session, edit)


def _turn() -> None:
    state().edit = st.session_state["story-edit"] or ""


frame.page("Story", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
