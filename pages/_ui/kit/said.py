"""Prompting as a lane: a sentence, a system message or shots, alone or with an edit, added in the same way on every page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.lanes import known_edits, own_dose
from pages._ui.kit.rows import rows_of
from pages._ui.kit.state import state
from workbench.edits.lane import Lane, Named
from workbench.edits.prompting import Prompting, ShotsOf

if TYPE_CHECKING:
    from workbench.session import Session

PREFIX, SYSTEM, SHOTS = "Before the prompt", "System message", "Shots from a set"
EXAMPLE = "A careful speaker answers."


def prompt_lane(session: Session, add: Callable[[Lane], None], *, key: str) -> None:
    """Draw the control that adds a lane which says something before every prompt; what it makes goes to `add`."""
    from workbench.models.chat import has_template

    chats = has_template(session.model.tokenizer)
    with st.popover(
        "Add a prompt as a lane", icon=":material/chat_add_on:", key=f"{key}-say", help="Asking costs no fit: a rival of any edit."
    ):
        ways = [PREFIX, *([SYSTEM] if chats else []), SHOTS]
        way = st.segmented_control("How", ways, default=PREFIX, key=f"{key}-say-way", required=True)
        if not chats:
            st.caption("This model has no chat template, so there is no system message.")
        said = _shots(session, key) if way == SHOTS else _sentence(way == SYSTEM, key)
        known = known_edits(session)
        edit = st.selectbox(
            "With the edit", [None, *known], format_func=lambda item: "none" if item is None else known[item], key=f"{key}-say-edit"
        )
        edits = () if edit is None else (Named(edit, own_dose(session, edit)),)
        frame.act("Add lane", add, Lane(edits, said), key=f"{key}-say-add", disabled=said is None)


def _sentence(is_system: bool, key: str) -> Prompting | None:
    text = st.text_input("Sentence", key=f"{key}-say-text", persist_state="session", placeholder=EXAMPLE).strip()
    if not text:
        return None
    return Prompting(system=text) if is_system else Prompting(prefix=text)


def _shots(session: Session, key: str) -> Prompting | None:
    """The first answered rows of split fit of a set; the one that is open stands there at first."""
    offers = {offer.id: offer.title for offer in session.demos.list()}
    if not offers:
        st.caption("There is no set to take shots from.")
        return None
    at = list(offers).index(state().set_name) if state().set_name in offers else 0
    chosen = st.selectbox("Set", list(offers), index=at, format_func=offers.__getitem__, key=f"{key}-say-set")
    rows = rows_of(session, chosen)
    if rows is None:
        return None
    most = len(rows.split("fit").having("prompt", "positive"))
    if not most:
        st.caption("The set has no answered row of split fit.")
        return None
    n = st.number_input(
        "Shots", 1, most, min(4, most), key=f"{key}-say-n", help="Rows of split fit, each with its good answer, before the prompt."
    )
    return Prompting(shots=ShotsOf(chosen, int(n)))
