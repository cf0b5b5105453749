"""Compare: put the controls back as a recorded comparison had them, and run it again: the same settings give the same texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import acting, asking, drawing, running
from pages._ui.kit.state import MAX_LANES, option, part, state
from workbench.conversations import Conversation

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.settings import CompareSettings
    from workbench.workspace.runs import Run


def restore(session: Session, run: Run) -> None:
    """Restore a run; call it before the page is drawn. Raises: as `compare_settings`."""
    from workbench.workspace.history import compare_settings

    settings = compare_settings(run)
    _lanes(settings)
    _prompts(settings)
    drawing.restore(session, settings.sampling, max(map(settings.prompts.count, settings.prompts), default=1))
    # What was forced cannot be set by hand: it is run as it was, beside the controls.
    running.begin(running.COMPARE, settings)


def _lanes(settings: CompareSettings) -> None:
    state().lanes, mine = settings.lanes[-MAX_LANES:], part(acting.Acting)
    mine.frozen, mine.where = {option(settings.lanes[i]) for i in settings.frozen}, {}
    mine.where = {option(lane): rule for lane, rule in zip(settings.lanes, settings.where) if rule}


def _prompts(settings: CompareSettings) -> None:
    prompts, told, boxes = list(dict.fromkeys(settings.prompts)), st.session_state, part(asking.Boxes)
    boxes.of = told.get(asking.KEY)
    if len(prompts) == 1 and isinstance(prompts[0], Conversation):
        talk = part(asking.Talk)
        talk.turns, talk.turn = list(prompts[0].turns), talk.turn + 1
        told["compare-ask"] = asking.TALK
        return
    boxes.texts, boxes.turn = [prompt.asked if isinstance(prompt, Conversation) else prompt for prompt in prompts], boxes.turn + 1
    told.update({"compare-ask": asking.BOXES, f"{asking.KEY}-chat": any(isinstance(prompt, Conversation) for prompt in prompts)})
    system = next((prompt.system for prompt in prompts if isinstance(prompt, Conversation) and prompt.system), "")
    told[f"{asking.KEY}-system"] = system
