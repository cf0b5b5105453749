"""Compare: where a lane's edits act, chosen by name or by the text that they wait for, and drawn on the tokens of the first prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import running
from pages._ui.kit import jobs, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.place_choice import place_choice
from pages._ui.kit.state import state
from workbench.edits.lane import Lane, Named
from workbench.errors import RetouchError
from workbench.place import read_place

if TYPE_CHECKING:
    from workbench.session import Prompt, Session


def place_of(lane: Lane) -> str:
    """The place of a lane: that of its first edit, as the control sets all of them; empty as they act by themselves."""
    return lane.edits[0].written_place if lane.edits else ""


def control(session: Session, lane: Lane, at: int, prompts: Sequence[Prompt], key: str) -> None:
    """Choose the place; say what is wrong with it, or draw where it is."""
    is_place = place_choice(session, place_of(lane), partial(put, at), key=key)
    if is_place and place_of(lane) and prompts:
        _strip(session, lane, at, prompts[0], key)
        if len(lane.edits) == 1:
            st.button(
                "Make it a part of the edit", key=f"{key}-keep", on_click=_keep, args=(session, at),
                help="Another edit, at hand in this lane's place: saved, its place goes with it.",
            )  # fmt: skip


def _strip(session: Session, lane: Lane, at: int, prompt: Prompt, key: str) -> None:
    """The tokens of a prompt and of what the lane answered to it last, those at which it acts dashed."""
    from workbench.methods.shared.touched import acted_on
    from workbench.models.placing import acts_at

    place, found, of = place_of(lane), jobs.result(running.COMPARE), jobs.settings_of(running.COMPARE)
    asked = lane.prompting.on(prompt) if lane.prompting else prompt
    is_mine = found is not None and of is not None and [one.keys for one in of.lanes[at : at + 1]] == [lane.keys]
    said = found.texts[0][at + 1].tokens if found is not None and is_mine and found.prompts[0] == prompt else ()
    try:
        tokens, n_prompt = session.token_texts(asked)
        if read_place(place).reads_text:
            acts = acts_at(session.model, place, asked, [token.id for token in said])
        else:
            acts = acted_on(place, len(tokens) + len(said), n_prompt)
    except RetouchError as error:  # the comparison will say so too
        st.caption(f":orange[{words.plain(str(error))}]")
        return
    strip = [*tokens, *(token.text for token in said)]
    token_strip(strip, key=f"{key}-drawn", marks=["write" if on else "" for on in acts], twin=False)
    st.caption("Dashed: the tokens that it acts at. The prompt's last one decides the first of the answer.")


def put(at: int, place: str) -> None:
    """Let the edits of a lane act at a place."""
    now = state()
    now.lanes = tuple(lane.acting(place) if i == at else lane for i, lane in enumerate(now.lanes))


def _keep(session: Session, at: int) -> None:
    """Put an edit that has the lane's place as its own in the place of the lane's."""
    now = state()
    lane = now.lanes[at]
    ((_, dose),) = lane.doses
    key = session.shelf.keep_placed(lane.edits[0])
    now.lanes = tuple(replace(lane, edits=(Named(key, dose),)) if i == at else one for i, one in enumerate(now.lanes))
