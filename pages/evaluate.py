"""Is the gain real, and what did it break?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate import contest, design, edits, influence, off_target, plane, protocol, watch
from pages._ui.kit import frame
from pages._ui.kit.backend import ready

if TYPE_CHECKING:
    from workbench.session import Session

ASKED = "evaluate-ask"
QUESTIONS = {
    "Is it real?": {"Edits": edits.evaluate, "At equal damage": contest.compete, "Canonical examples": protocol.compare},
    "Which is best?": {"Design": design.search, "Dose plane": plane.turn},
    "Why, and what else?": {"Which did it": influence.blame, "Off target": off_target.spread, "Long watch": watch.follow},
}


def main(session: Session) -> None:
    """Edits that are made, the search for a better one, or the causes and side effects of one."""
    now = st.session_state
    if (asked := now.pop(ASKED, None)) is not None:  # a button of one view asks for another
        now["evaluate-question"] = next(question for question, views in QUESTIONS.items() if asked in views)
        now["evaluate-view"] = asked
    now.setdefault("evaluate-question", next(iter(QUESTIONS)))
    question = _chosen("Question", QUESTIONS, key="evaluate-question")
    views = QUESTIONS[question]
    if now.get("evaluate-view") not in views:
        now["evaluate-view"] = next(iter(views))
    views[_chosen("View", views, key="evaluate-view")](session)


def _chosen(label: str, options: Mapping[str, object], *, key: str) -> str:
    chosen = st.segmented_control(label, list(options), key=key, required=True, label_visibility="collapsed", persist_state="session")
    return chosen or next(iter(options))


frame.page("Evaluate", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
