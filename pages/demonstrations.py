"""What should the model do more of, and what less?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import beside, geometry, sets
from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.kit.rows import as_jsonl, counts, editor, merged

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """Picker, table and its foot; beside them the checks and the chosen row's tokens; below, both sides inside the model."""
    chosen = sets.picker(session, key="demonstrations-set")
    if chosen is None:
        with frame.empty("Your demonstrations will stand here, one row each.", "Import a file to begin.", key="no-set"):
            st.button("Import", key="set-import-first", on_click=lambda: sets.import_dialog(session))
        return
    table, side = st.columns([2, 1], gap="large")
    with table:
        base, key = sets.base(session, chosen)
        editor(base, key, lambda: sets.save_changes(session, chosen, merged(base, st.session_state[key])))
        sets.failure()
        demonstrations = session.demos(chosen)
        st.caption(f"{len(demonstrations)} rows: {counts(demonstrations)}. Every change is a version on disk.")
        _foot(session, chosen)
    with side:
        troubled = beside.checks(session, demonstrations)
        index = beside.row(session, demonstrations, geometry.picked_rows(demonstrations) or troubled)
    geometry.panel(session, chosen, demonstrations, index)


def _foot(session: Session, chosen: str) -> None:
    demonstrations, saved = session.demos(chosen), session.demos.info(chosen).saved
    with st.container(horizontal=True):
        st.button("Undo", disabled=saved is None or not saved.can_undo, on_click=sets.move, args=(session, chosen, True), key="set-undo")
        st.button("Redo", disabled=saved is None or not saved.can_redo, on_click=sets.move, args=(session, chosen, False), key="set-redo")
        if st.button("Import", key="set-import"):
            sets.import_dialog(session)
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
