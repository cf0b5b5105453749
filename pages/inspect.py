"""Where inside the model does this answer come from?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect import attribution, heads, lenses, patching
from pages._ui.kit import frame, scope
from pages._ui.kit.backend import ready
from pages._ui.kit.prompts import prompt

if TYPE_CHECKING:
    from workbench.session import Session

PROMPT, TARGET, DISTRACTOR = "Question: What do carrots help most? Answer:", " gut", " eyes"
ASKED, ASKED_TARGET, ASKED_DISTRACTOR = "What is the capital of France? Answer in one word.", "Paris", "London"
TABS = {
    "Logit lens": lenses.logit_lens,
    "Attention": lenses.attention,
    "Attribution": attribution.attribution,
    "Patching": patching.patching,
    "Heads": heads.heads,
    "Circuit": patching.circuit,
}


def main(session: Session) -> None:
    """Prompt, target and distractor on top; below, one lens at a time, run when asked; the scope at the foot."""
    text = prompt(session, "Prompt", PROMPT, key="inspect-prompt", asks=ASKED)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for key, plain, asked in (("inspect-target", TARGET, ASKED_TARGET), ("inspect-distractor", DISTRACTOR, ASKED_DISTRACTOR)):
            if st.session_state.get(key, plain) in (plain, asked):
                st.session_state[key] = plain if isinstance(text, str) else asked
        target = st.text_input("Target", key="inspect-target", placeholder="a word, with its space", persist_state="session", width=220)
        distractor = st.text_input("Distractor", key="inspect-distractor", placeholder="another word", persist_state="session", width=220)
        st.button("Swap", icon=":material/swap_horiz:", key="inspect-swap", on_click=_swap)
    targets = tuple(word for word in (target, distractor) if word)
    name = st.segmented_control("Lens", list(TABS), default="Logit lens", key="inspect-lens", required=True, label_visibility="collapsed")
    TABS[name or "Logit lens"](session, text, targets)
    scope.tray()


def _swap() -> None:
    state = st.session_state
    state["inspect-target"], state["inspect-distractor"] = state["inspect-distractor"], state["inspect-target"]


frame.page("Inspect", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
