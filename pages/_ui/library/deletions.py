"""Library: what is deleted lies in the bin for a while, and the last deletion can be undone at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.state import part, state

if TYPE_CHECKING:
    from workbench.session import Session


@dataclass(eq=False)
class Deleted:
    """The edit that was deleted last in this tab, until it is put back."""

    edit: str = ""


def n_deleted(session: Session) -> int:
    """How many edits and sets can be put back."""
    return len(session.workspace.edits.deleted()) + len(session.workspace.sets.deleted())


def was_last(session: Session) -> bool:
    """Whether what this tab deleted last is still in the bin: nothing else is chosen then, so that a second click deletes nothing more."""
    return part(Deleted).edit in {item.id for item in session.workspace.edits.deleted()}


def delete(session: Session, edit: str) -> None:
    """Put an edit into the bin, as a button's callback; one that another tab deleted meanwhile is there already."""
    state().turn_off(edit)
    if edit in {item.id for item in session.edits()}:
        session.workspace.edits.delete(edit)
    part(Deleted).edit = edit


def undo(session: Session) -> None:
    """What was deleted last, with a way back."""
    last = next((item for item in session.workspace.edits.deleted() if item.id == part(Deleted).edit), None)
    if last is None:
        return
    with st.container(horizontal=True, key="undo", vertical_alignment="center"):
        st.text(f"{last.name} is in the bin for {session.workspace.bin_days:.0f} days.")
        st.button("Undo", key="library-undo", on_click=_restore, args=(session, last.id))


def panel(session: Session) -> None:
    """Everything in the bin, each with a way back."""
    edits, sets = session.workspace.edits.deleted(), session.workspace.sets.deleted()
    st.caption(f"What is deleted stays here for {session.workspace.bin_days:.0f} days.")
    for item in edits:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"Edit {item.name} · {item.method.replace('_', ' ')} · dose {item.dose:g}")
            st.button("Put back", key=f"restore-{item.id}", on_click=_restore, args=(session, item.id))
    for one in sets:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"Set {one.name} · {words.count(one.n, 'row')}")
            st.button("Put back", key=f"restore-{one.id}", on_click=_restore_set, args=(session, one.id))


def _restore(session: Session, edit: str) -> None:
    if edit in {item.id for item in session.workspace.edits.deleted()}:  # another tab may have been faster
        session.workspace.edits.restore(edit)
    st.session_state["library-edit"] = edit


def _restore_set(session: Session, key: str) -> None:
    if key in {item.id for item in session.workspace.sets.deleted()}:
        session.demos.restore(key)
