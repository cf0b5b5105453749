"""What does the model say with the edit, and what without?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import asking, drawing, places, running, texts
from pages._ui.compare import lanes as comparing
from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """What is asked on top, lanes and sampling beside, the texts below."""
    left, right = st.columns([2, 1], gap="large")
    with left:
        prompts = asking.asked(session)
        with st.expander("Sampling"):
            sampling, n = drawing.sampling(session)
    with right:
        lanes, frozen = comparing.lane_controls(session, prompts)
    settings = CompareSettings(tuple(prompt for prompt in prompts for _ in range(n)), lanes, sampling, frozen=frozen)
    with st.container(horizontal=True, vertical_alignment="center"):
        running.controls(settings, sampling.temperature == 0)
    with st.container(horizontal=True, vertical_alignment="center"):
        look = texts.looks()

    texts.panel(session, settings, look, _nothing)
    comparing.dose_strip(session, lanes, settings)
    places.place_map(session, lanes)


def _nothing() -> None:
    frame.empty(
        "The untouched model and your edits will answer here side by side, token by token.",
        "Add an edit as a lane, or press *Compare* to hear the base alone.",
        key="compare",
    )


frame.page("Compare", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
