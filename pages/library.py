"""What have I kept, and how do I take it home?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, words
from pages._ui.kit.backend import ready
from pages._ui.kit.lanes import story_link
from pages._ui.kit.state import state
from pages._ui.library import deletions, exports, history

if TYPE_CHECKING:
    from workbench.session import EditInfo, Session


def main(session: Session) -> None:
    """Saved edits, what can be done with the chosen one, and the runs."""
    saved = {item.id: item for item in session.edits()}
    deletions.undo(session)
    edits, runs, deleted = st.tabs([f"Edits ({len(saved)})", "Runs", f"Bin ({deletions.n_deleted(session)})"])
    with edits:
        if not saved:
            with frame.empty(
                "Edits that you save will stand here; they outlive the browser and the program.", "Fit one, then *Save*.", key="library"
            ):
                st.page_link("pages/edit.py", label="Fit an edit", icon=":material/tune:")
        else:
            _edits(session, saved)
    with runs:
        history.panel(session)
    with deleted:
        deletions.panel(session)


def _edits(session: Session, saved: dict[str, EditInfo]) -> None:
    table, side = st.columns([3, 2], gap="large")
    with table:
        rows = [
            {
                "name": item.name, "method": item.method.replace("_", " "), "dose": item.dose, "verdict": item.verdict,
                "saved": _when(item.created), "model": item.model.name, "seed": item.seed, "id": item.id,
            }
            for item in saved.values()
        ]  # fmt: skip
        st.dataframe(rows, hide_index=True, width="stretch", key="library-table")
        ids = list(saved)
        if st.session_state.get("library-edit") not in saved:
            st.session_state["library-edit"] = state().edit if state().edit in saved else None if deletions.was_last(session) else ids[0]
        edit: str | None = st.selectbox(
            "Edit", ids, index=None, format_func=lambda key: saved[key].name, key="library-edit", placeholder="Choose an edit"
        )
    with side:
        # After a deletion nothing is chosen: a second click in the same place would delete what came to stand there.
        if edit is not None:
            _one(session, saved[edit])


def _one(session: Session, item: EditInfo) -> None:
    fits = item.model.same_model(session.model.fingerprint)
    st.header(words.plain(item.name), anchor=False)
    st.text(item.verdict or "It was saved without a verdict.")
    frame.source(
        words.provenance(model=item.model.name, edit=item.id, dose=f"{item.dose:g}", seed=item.seed, data=f"data {item.data[:6]}"),
        "library-one",
    )
    if not fits:
        st.caption(f":orange[It was fitted on {words.plain(item.model.name)}; another model is open, so it can't be used here.]")
    with st.container(horizontal=True):
        if st.button("Compare", type="primary", disabled=not fits, key="library-compare"):
            state().turn_on(item.id, item.dose)
            st.switch_page("pages/compare.py")
        if st.button("Spectra", key="library-spectra", disabled=not fits):
            state().edit = item.id
            st.session_state["spectra-edits"] = [item.id]
            st.switch_page("pages/spectra.py")
        story_link(item.id, key="library-story")
        with st.popover("Rename"):
            name = st.text_input("New name", item.name, key=f"rename-{item.id}")
            frame.act("Rename edit", _rename, session, item.id, name, key=f"rename-go-{item.id}", disabled=not name.strip())
        kept = "It goes into the bin; its runs stay."
        st.button("Delete", key=f"delete-{item.id}", on_click=deletions.delete, args=(session, item.id), help=kept)
    exports.panel(session, item, fits)


def _rename(session: Session, edit: str, name: str) -> None:
    session.workspace.edits.rename(edit, name.strip())


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%d %b %Y %H:%M")


frame.page("Library", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
