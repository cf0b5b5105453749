"""Demonstrations: a person's own sets are renamed, copied, merged, and deleted with a way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.rows import Editor
from pages._ui.kit.state import part, state
from pages._ui.kit.words import count, plain

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.workspace.shipped import Offer


@dataclass
class LastDeleted:
    """The set that was deleted last in this tab, until it is put back."""

    set: str = ""
    of_tab: ClassVar[bool] = True  # sets are those of every model


def menu(session: Session, chosen: str) -> None:
    """What can be done with the chosen set as a whole."""
    offer = session.demos.info(chosen)
    with st.popover("Manage", icon=":material/more_horiz:", key="set-manage"):
        if offer.is_shipped:
            st.caption("This set ships with Retouch and stays as it is. A copy is yours to change.")
        else:
            name = st.text_input("Name", offer.title, key=f"set-name-{chosen}-{offer.title}")
            frame.act("Rename", _rename, session, chosen, name, key="set-rename", disabled=not name.strip() or name == offer.title)
        st.button("Duplicate", key="set-duplicate", on_click=_duplicate, args=(session, chosen))
        _merging(session, offer)
        if not offer.is_shipped:
            st.divider()
            st.button("Delete this set", key="set-delete", on_click=_delete, args=(session, chosen), icon=":material/delete:")


def _merging(session: Session, offer: Offer) -> None:
    others = {item.id: item.title for item in session.demos.list() if item.id != offer.id}
    added = st.multiselect("Merge with", list(others), format_func=lambda key: str(others.get(key, key)), key=f"set-merge-{offer.id}")
    frame.act("Merge into a new set", _merge, session, [offer.id, *added], key="set-merge", disabled=not added)


def undo(session: Session) -> None:
    """The set that was deleted last, with a way back."""
    last = next((item for item in session.workspace.sets.deleted() if item.id == part(LastDeleted).set), None)
    if last is None:
        return
    with st.container(horizontal=True, key="set-undelete-row", vertical_alignment="center"):
        st.text(f"{last.name} ({count(last.n, 'row')}) is in the bin for {session.workspace.bin_days:.0f} days.")
        st.button("Undo", key="set-undelete", on_click=_restore, args=(session, last.id))


def _turn_to(key: str) -> None:
    state().set_name = key
    part(Editor).restart()


def _rename(session: Session, chosen: str, name: str) -> None:
    session.demos.rename(chosen, name)


def _duplicate(session: Session, chosen: str) -> None:
    info = session.demos.duplicate(chosen)
    st.toast(f"This is {plain(info.name)} now.")
    _turn_to(info.id)


def _merge(session: Session, keys: Sequence[str]) -> None:
    info = session.demos.merge(keys)
    st.toast(f"{plain(info.name)}: {count(info.n, 'row')}, each text once.")
    _turn_to(info.id)


def _delete(session: Session, chosen: str) -> None:
    if chosen in {item.id for item in session.demos.list()}:  # another tab may have been faster
        session.demos.delete(chosen)
    part(LastDeleted).set = chosen
    _turn_to("")


def _restore(session: Session, key: str) -> None:
    if key in {item.id for item in session.workspace.sets.deleted()}:
        session.demos.restore(key)
    part(LastDeleted).set = ""
    _turn_to(key)
