"""What the views of Evaluate are asked about: a set with its rows, and edits at hand, each at its own dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.kit.lanes import Lanes, known_edits, lanes_on, own_dose
from pages._ui.kit.rows import rows_of
from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Lane, Named

if TYPE_CHECKING:
    from workbench.session import Session


def set_chosen(session: Session, *, key: str) -> tuple[str, Demonstrations] | None:
    """Draw the picker of sets; its id and rows, None where there is none or it cannot be read (which is said then)."""
    chosen = sets.picker(session, key=key)
    rows = None if chosen is None else rows_of(session, chosen)
    return None if chosen is None or rows is None else (chosen, rows)


def edits_on(known: Sequence[str]) -> list[str]:
    """The edits of the lanes that are on, as far as they are known here; else the newest."""
    return [edit for lane in lanes_on() for edit in lane.keys if edit in known] or list(known)[:1]


def edits_chosen(session: Session, label: str, *, key: str, most: int, first: bool = True) -> list[str]:
    """Choose edits at hand; `first`: those that are on stand there at first."""
    known = known_edits(session)
    begun = edits_on(list(known))[:most] if first else []
    st.session_state[key] = [edit for edit in st.session_state.get(key, begun) if edit in known]
    return st.multiselect(label, list(known), format_func=known.__getitem__, key=key, max_selections=most, persist_state="session")


def at_own_doses(session: Session, edits: Sequence[str]) -> Lanes:
    """A lane an edit, at the dose it was saved or judged at."""
    return tuple(Lane((Named(edit, own_dose(session, edit)),)) for edit in edits)
