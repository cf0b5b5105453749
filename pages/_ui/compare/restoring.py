"""Compare: put the controls back as a recorded comparison had them, and its texts; where none are on record it is run again: the same
settings give the same texts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import acting, asking, drawing, running
from pages._ui.kit.lanes import at_hand, known_edits
from pages._ui.kit.state import MAX_LANES, option, part, state
from workbench.conversations import Conversation

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.settings import CompareSettings
    from workbench.workspace.runs import Run


def restore(session: Session, run: Run) -> None:
    """Restore a run; call it before the page is drawn. Raises: as `compare_settings` and `result_of`."""
    from workbench.workspace.history import compare_settings, result_of

    told = compare_settings(run)
    lanes = [at_hand(session, lane) for lane in told.lanes]
    # Older runs tell the places of their lanes beside them.
    places = told.where or ("",) * len(lanes)
    settings = replace(told, where=(), lanes=tuple(lane.acting(place) if place else lane for lane, place in zip(lanes, places)))
    found = result_of(run, session.workspace.runs)
    _lanes(settings)
    _prompts(settings)
    drawing.restore(session, settings.sampling, max(map(settings.prompts.count, settings.prompts), default=1))
    running.restore(settings, found, _shown(session, settings))


def _shown(session: Session, settings: CompareSettings) -> CompareSettings:
    """What the controls can say: no forced token, and no lane of an edit that is gone."""
    known = known_edits(session)
    here = [at for at, lane in enumerate(settings.lanes) if set(lane.keys) <= known.keys()]
    frozen = tuple(here.index(at) for at in settings.frozen if at in here)
    lanes = tuple(settings.lanes[at] for at in here)
    return replace(settings, lanes=lanes, forced=(), frozen=frozen)


def _lanes(settings: CompareSettings) -> None:
    state().lanes, mine = settings.lanes[-MAX_LANES:], part(acting.Acting)
    mine.frozen = {option(settings.lanes[i]) for i in settings.frozen}


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
