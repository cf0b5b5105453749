"""Which senses of which words does one example move, and what else does that change?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.senses import panels

if TYPE_CHECKING:
    from workbench.session import Session

TABS = {
    "Teach one example": panels.teach,
    "Explore a word": panels.explore,
    "Where senses are read": panels.reading,
}


def main(session: Session) -> None:
    """Three views of a Backpack; without one, the way to it."""
    if not session.model.info.has_senses:
        with frame.empty(
            f"{session.model.info.name} has no senses. A Backpack keeps several vectors for every word and only mixes them: each can be "
            "read, turned down, or taught.",
            "Load embedded-backpack.",
            key="senses",
        ):
            st.page_link("pages/model.py", label="Choose a model", icon=":material/deployed_code:")
        return
    name = st.segmented_control(
        "View", list(TABS), default="Teach one example", key="senses-view", required=True, label_visibility="collapsed"
    )
    TABS[name or "Teach one example"](session)


frame.page("Senses", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
