"""What should the model do more of, and what less?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import beginnings, beside, drawing, geometry, own, pair, sets
from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.kit.rows import as_jsonl, counts, rows_of
from pages._ui.kit.words import count

if TYPE_CHECKING:
    from workbench.data.demonstrations import Demonstrations
    from workbench.session import Session


def main(session: Session) -> None:
    """Picker, table and its foot; beside them the checks; below, one row in view and both sides inside the model."""
    chosen = sets.picker(session, key="demonstrations-set", beside=lambda key: _manage(session, key))
    own.undo(session)
    if chosen is None:
        with frame.empty("Your demonstrations will stand here, one row each.", "Begin a set, or import a file.", key="no-set"):
            _new(session)
        return
    # Before the rows: what another tab does in between then looks like a conflict, and never like nothing.
    saved = session.demos.info(chosen).saved
    version, demonstrations = None if saved is None else saved.version, rows_of(session, chosen)
    if demonstrations is None:
        sets.damaged(session, chosen)
        return
    table, side = st.columns([2, 1], gap="large")
    with table:
        sets.table(session, chosen, demonstrations, version, beside.found_now(session, demonstrations))
        n = session.demos.n_opened(chosen)
        opened = f" Test is opened: {count(n, 'run')} scored edits on it." if n else ""
        each = f": {counts(demonstrations)}" if len(demonstrations) else ", type the first into the table"
        st.caption(f"{count(len(demonstrations), 'row')}{each}.{opened} Every change is a version on disk.")
        _foot(session, chosen, demonstrations, version)
    with side:
        beside.checks(session, chosen, demonstrations, version)
    index = pair.panel(session, chosen, demonstrations, geometry.picked_rows(demonstrations))
    geometry.panel(session, chosen, demonstrations, version, index)


def _manage(session: Session, chosen: str) -> None:
    _new(session)
    own.menu(session, chosen)


def _new(session: Session) -> None:
    if st.button("New set", key="set-new", icon=":material/add:"):
        beginnings.begin(session, "Paste")
    if st.button("Import", key="set-import"):
        beginnings.begin(session, "Files")


def _foot(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None) -> None:
    saved = session.demos.info(chosen).saved
    with st.container(horizontal=True):
        st.button("Undo", disabled=saved is None or not saved.can_undo, on_click=sets.move, args=(session, chosen, True), key="set-undo")
        st.button("Redo", disabled=saved is None or not saved.can_redo, on_click=sets.move, args=(session, chosen, False), key="set-redo")
        drawing.splits(session, chosen, demonstrations, version)
        drawing.versions(session, chosen)
        st.download_button(
            "Download",
            lambda: as_jsonl(demonstrations),
            f"{demonstrations.name}.jsonl",
            "application/jsonl",
            key="set-download",
            on_click="ignore",
        )
        if st.button("Fit an edit with these", type="primary", key="set-fit"):
            st.switch_page("pages/edit.py")


frame.page("Demonstrations", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
