"""The edits at hand and the lanes that are on, as any page names them and hands them to the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.backend import session
from pages._ui.kit.state import state
from workbench.edits.lane import Lane, Named
from workbench.errors import UnknownName

if TYPE_CHECKING:
    from workbench.edits.base import Edit
    from workbench.session import Session

Lanes = tuple[Lane, ...]


def known_edits(session: Session) -> dict[str, str]:
    """Names by id of every edit that fits this model: fits of this process first, the newest first, then the saved ones."""
    mine = session.model.fingerprint
    kept = [item for item in session.edits() if item.model.same_model(mine)]
    saved, fits = {item.id: item.name for item in kept}, {item.fit: item.name for item in reversed(kept)}
    fresh = {
        item.edit.id: f"{fits[item.edit.id]}, as fitted" if item.edit.id in fits else f"{_plain_name(item.edit)} (not saved)"
        for item in session.shelf.fitted()
        if item.edit.id not in saved and item.edit.header.model.same_model(mine)
    }
    return {**fresh, **saved}


def _plain_name(edit: Edit) -> str:
    return edit.called or f"{edit.header.method.replace('_', ' ')} {edit.id[:4]}"


def own_dose(session: Session, edit: str) -> float:
    """The dose that an edit was saved at, else that at which its fit was judged in this tab, else 1."""
    return next((item.dose for item in session.edits() if item.id == edit), state().bench.doses.get(edit, 1.0))


def edit_name(session: Session, edit: str) -> str:
    """What to call an edit of this process or workspace, whichever its model; the start of its id where it is not known any more.

    A folder is never read here: links name edits, and what they name is drawn.
    """
    saved = session.edits()
    names = {item.fit: item.name for item in reversed(saved)} | {item.id: item.name for item in saved}
    return names.get(edit) or known_edits(session).get(edit, edit[:8])


def check_link() -> None:
    """Turn off what a link names and nobody has; the page says so."""
    now, opened = state(), session()
    if opened is None or not now.is_unread:
        return
    now.is_unread, known = False, known_edits(opened)
    lacking = [key for lane in now.lanes for key in lane.keys if key not in known]
    if lacking:
        usable_lanes(opened)
        # The saved ones alone: what somebody has not saved is nobody else's to read of.
        now.bad_link = UnknownName("saved edit", f"{lacking[0]:.40}", [item.name for item in opened.edits() if item.id in known])


def lane_name(session: Session, lane: Lane) -> str:
    """What to call a lane: the names of its edits, and what it says before prompts."""
    return " + ".join([*(edit_name(session, edit) for edit in lane.keys), *([lane.prompting.label] if lane.prompting else [])])


def at_hand(session: Session, lane: Lane) -> Lane:
    """A lane of a record, which tells edits by their fits, with the ids under which they are at hand: of a saved fit that of this dose,
    else of another; an edit that is gone keeps the id of its fit."""
    known, saved = known_edits(session), session.edits()

    def here(fit: str, dose: float | None) -> str:
        mine = sorted((item for item in saved if item.fit == fit), key=lambda item: item.dose != dose)
        return fit if fit in known else next((item.id for item in mine), fit)

    return replace(lane, edits=tuple(Named(here(one.key, one.written_dose), one.written_dose, one.written_place) for one in lane.edits))


def story_link(edit: str, *, key: str) -> None:
    """The way to everything about one edit."""
    if st.button("All about it", key=key, icon=":material/badge:", type="tertiary", help="Its verdict, rows, texts, spectra and origin."):
        state().edit = edit
        st.switch_page("pages/story.py")


def lanes_on() -> Lanes:
    """The lanes of edits alone that are on, as part of a result's settings; what is said before a prompt is for who reads answers."""
    return tuple(lane for lane in state().lanes if lane.prompting is None)


def usable_lanes(session: Session) -> Lanes:
    """The lanes that are on and whose edits are there and fit this model; the others are turned off. Each edit has a dose."""
    known, now = known_edits(session), state()
    usable = tuple(lane for lane in now.lanes if set(lane.keys) <= set(known))
    now.lanes = tuple(_dosed(session, lane) for lane in usable)
    return now.lanes


def with_base(lanes: Sequence[Lane]) -> list[Lane]:
    """The untouched model, then the lanes, as the session takes them."""
    return [Lane(), *lanes]


def _dosed(session: Session, lane: Lane) -> Lane:
    """The lane with the dose of its own for each edit that a link names without one."""
    doses = [own_dose(session, key) if dose is None else dose for key, dose in lane.doses]
    return replace(lane, edits=tuple(Named(one.key, dose, one.written_place) for one, dose in zip(lane.edits, doses)))
