"""The prompts that stand beside edits on the page Evaluate, the same in each of its views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.lanes import Lanes, lane_name
from pages._ui.kit.said import prompt_lane
from pages._ui.kit.state import MAX_LANES, part
from workbench.edits.lane import Lane

if TYPE_CHECKING:
    from workbench.session import Session


@dataclass
class Beside:
    """The prompts that are measured beside the edits."""

    lanes: Lanes = ()


def beside_prompts(session: Session, *, key: str) -> Lanes:
    """Prompts that are measured beside the edits, each a lane that can be taken off."""
    beside, chosen = part(Beside), f"{key}-prompts"
    if beside.lanes:
        names = {str(lane): lane_name(session, lane) for lane in beside.lanes}
        st.session_state[chosen] = list(names)
        st.multiselect("Prompts", list(names), format_func=names.__getitem__, key=chosen, on_change=_keep, args=(chosen,))
    prompt_lane(session, _add, key=key)
    return beside.lanes


def _keep(key: str) -> None:
    beside, chosen = part(Beside), st.session_state[key]
    beside.lanes = tuple(lane for lane in beside.lanes if str(lane) in chosen)


def _add(lane: Lane) -> None:
    beside = part(Beside)
    beside.lanes = (*(one for one in beside.lanes if one != lane), lane)[-MAX_LANES:]
