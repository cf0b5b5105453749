"""Where inside the model does this answer come from?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect import attribution, directions, flow, heads, lenses, nodes, patching, reader, several
from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.targets import targets as target_fields
from pages._ui.kit import frame, scope
from pages._ui.kit.backend import ready
from pages._ui.kit.prompts import prompt

if TYPE_CHECKING:
    from workbench.session import Session

PROMPT, TARGET, DISTRACTOR = "Question: What do carrots help most? Answer:", " gut", " eyes"
ASKED, ASKED_TARGET, ASKED_DISTRACTOR = "What is the capital of France? Answer in one word.", "Paris", "London"
# A tab, and the lens that it needs; those of a tab with views are asked for by each view.
TABS = {
    "Logit lens": (lenses.logit_lens, "logit_lens"),
    "Attention": (lenses.attention, "attention"),
    "Attribution": (attribution.attribution, "direct_attribution"),
    "Patching": (patching.patching, ""),
    "Heads": (heads.heads, ""),
    "Circuit": (patching.circuit, "circuit"),
    "Flow": (flow.flow, "flow"),
    "Nodes": (nodes.nodes, "node_table"),
    "Directions": (directions.directions, "direction_card"),
    "Reader": (reader.reader, "reader"),
}
# Tabs whose numbers can be had over several prompts, and which of them.
SEVERAL = {"Logit lens": "layers", "Attribution": "component", "Nodes": "head"}


def main(session: Session) -> None:
    """Prompt, target and distractor on top; below, one lens at a time, run when asked; the scope at the foot."""
    text = prompt(session, "Prompt", PROMPT, key="inspect-prompt", asks=ASKED)
    targets = target_fields(session, text, ((TARGET, ASKED_TARGET), (DISTRACTOR, ASKED_DISTRACTOR)))
    heads.follow_link()
    name = st.segmented_control("Lens", list(TABS), default="Logit lens", key="inspect-lens", required=True, label_visibility="collapsed")
    draw, lens = TABS[name or "Logit lens"]
    if not (lens and blocked(session, lens)):
        draw(session, text, targets)
        if name in SEVERAL:
            several.several(session, lens, SEVERAL[name])
    scope.tray()


frame.page("Inspect", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
