"""What does the model say with the edit, and what without?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import lanes as comparing
from pages._ui.kit import frame, jobs
from pages._ui.kit.backend import ready
from pages._ui.kit.prompts import prompt
from workbench.sampling import Sampling
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.session import Session

PROMPTS = "Question: What do carrots help most? Answer:\nQuestion: Where do diamonds come from? Answer:"


def main(session: Session) -> None:
    """Prompts on top, lanes and sampling beside, the texts below."""
    left, right = st.columns([2, 1], gap="large")
    with left:
        text = prompt("Prompts, one a line", PROMPTS, key="compare-prompts", tall=True)
        with st.expander("Sampling"):
            sampling = _sampling()
    with right:
        lanes = comparing.lane_controls(session)
    settings = CompareSettings(tuple(line for line in text.splitlines() if line.strip())[:6], lanes, sampling)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        frame.act("Compare", comparing.begin, comparing.COMPARE, settings, type="primary", key="compare", disabled=not settings.prompts)
        colour = st.segmented_control(
            "Colour", comparing.COLOURS, default=comparing.COLOURS[0], key="compare-colour", required=True, label_visibility="collapsed"
        )
    draw = partial(comparing.draw, session, colour=colour or comparing.COLOURS[0])
    jobs.panel(comparing.COMPARE, draw, settings=settings, nothing=_nothing, live=comparing.live)
    comparing.dose_strip(session, lanes, settings)


def _sampling() -> Sampling:
    with st.container(horizontal=True):
        n = st.number_input("New tokens", 1, 400, 24, key="sample-n", persist_state="session", width=140)
        heat = st.number_input(
            "Temperature", 0.0, 5.0, 0.0, step=0.1, key="sample-heat", persist_state="session", width=140, help="0 is greedy."
        )
        top_k = st.number_input("Top k", 1, 100000, None, key="sample-k", persist_state="session", width=140, placeholder="all")
        top_p = st.number_input("Top p", 0.01, 1.0, 1.0, step=0.05, key="sample-p", persist_state="session", width=140)
        penalty = st.number_input("Repetition penalty", 0.5, 3.0, 1.0, step=0.05, key="sample-rep", persist_state="session", width=160)
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="sample-seed", persist_state="session", width=140)
    same = st.toggle(
        "The same seed for all lanes",
        True,
        key="sample-same",
        persist_state="session",
        help="Lanes then differ only where their distributions do.",
    )
    return Sampling(int(n), heat, top_k, top_p, penalty, int(seed), same)


def _nothing() -> None:
    frame.empty(
        "The untouched model and your edits will answer here side by side, token by token.",
        "Add an edit as a lane, or press *Compare* to hear the base alone.",
        key="compare",
    )


frame.page("Compare", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
