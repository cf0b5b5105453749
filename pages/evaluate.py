"""Is the gain real, and what did it break?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate import contest, design, edits, influence, off_target, plane, protocol, watch
from pages._ui.kit import frame
from pages._ui.kit.backend import ready

if TYPE_CHECKING:
    from workbench.session import Session

ASKED = "evaluate-ask"
VIEWS = {
    "Edits": edits.evaluate,
    "At equal damage": contest.compete,
    "Design": design.search,
    "Which did it": influence.blame,
    "Off target": off_target.spread,
    "Dose plane": plane.turn,
    "Long watch": watch.follow,
    "Canonical examples": protocol.compare,
}


def main(session: Session) -> None:
    """Edits that are made, any of them at equal damage, the demonstrations behind one, or methods by the protocol of canonical examples."""
    if (asked := st.session_state.pop(ASKED, None)) is not None:  # a button of one view asks for another
        st.session_state["evaluate-view"] = asked
    st.session_state.setdefault("evaluate-view", "Edits")
    view = st.segmented_control(
        "View", list(VIEWS), key="evaluate-view", required=True, label_visibility="collapsed", persist_state="session"
    )
    VIEWS[view or "Edits"](session)


frame.page("Evaluate", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
