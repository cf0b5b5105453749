"""What does the model say with the edit, and what without?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import drawing
from pages._ui.compare import lanes as comparing
from pages._ui.kit import frame, jobs
from pages._ui.kit.backend import ready
from pages._ui.kit.prompts import prompts
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.session import Session

PROMPTS = "Question: What do carrots help most? Answer:\nQuestion: Where do diamonds come from? Answer:"
ASKED = "What is the capital of France?\nWhy is the sky blue? Answer in one sentence."


def main(session: Session) -> None:
    """Prompts on top, lanes and sampling beside, the texts below."""
    left, right = st.columns([2, 1], gap="large")
    with left:
        found = prompts(
            session, "Prompts, one a line; with an empty line between them they may be longer", PROMPTS, key="compare-prompts", asks=ASKED
        )
        with st.expander("Sampling"):
            sampling = drawing.sampling(session)
    with right:
        lanes = comparing.lane_controls(session)
    settings = CompareSettings(found, lanes, sampling)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        frame.act("Compare", comparing.begin, comparing.COMPARE, settings, type="primary", key="compare", disabled=not settings.prompts)
        colour = st.segmented_control(
            "Colour", comparing.COLOURS, default=comparing.COLOURS[0], key="compare-colour", required=True, label_visibility="collapsed"
        )
    draw = partial(comparing.draw, session, colour=colour or comparing.COLOURS[0])
    jobs.panel(comparing.COMPARE, draw, settings=settings, nothing=_nothing, live=comparing.live)
    comparing.dose_strip(session, lanes, settings)


def _nothing() -> None:
    frame.empty(
        "The untouched model and your edits will answer here side by side, token by token.",
        "Add an edit as a lane, or press *Compare* to hear the base alone.",
        key="compare",
    )


frame.page("Compare", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
