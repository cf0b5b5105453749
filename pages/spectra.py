"""What did the fit find, and how large is the edit where it acts?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.edit import fits
from pages._ui.kit import frame, words
from pages._ui.kit.backend import ready
from pages._ui.kit.lanes import known_edits
from pages._ui.kit.state import state
from pages._ui.spectra import moves, panels

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """Pick one or two edits; their pictures stand side by side."""
    known = known_edits(session)
    if not known:
        with frame.empty(
            "The spectra of your edits will stand here: what was kept and what was dropped, how far each layer is moved, where held-out "
            "answers lie before and after.",
            "Fit an edit first.",
            key="spectra",
        ):
            st.page_link("pages/edit.py", label="Fit an edit", icon=":material/tune:")
        return
    key, now = "spectra-edits", state()
    if key not in st.session_state:
        st.session_state[key] = [edit for edit in (now.edit, next(iter(known))) if edit in known][:1]
    st.session_state[key] = [edit for edit in st.session_state[key] if edit in known]
    chosen = st.multiselect(
        "One or two edits", list(known), format_func=lambda edit: known[edit], key=key, max_selections=2, persist_state="session"
    )
    if not chosen:
        frame.empty("Pick an edit above to see its spectra.", key="pick")
        return
    now.edit = chosen[0]
    for at, (edit, column) in enumerate(zip(chosen, st.columns(len(chosen), gap="large"))):
        with column:
            _one(session, edit, known[edit])
            moves.panel(session, edit, at=at)
    if len(chosen) == 2:
        panels.angles(chosen[0], chosen[1])


def _one(session: Session, edit: str, name: str) -> None:
    st.header(words.plain(name), anchor=False)
    report = session.report(edit)
    if report is None:
        frame.empty(
            "This edit was brought from elsewhere, without the report of its fit.", "Fit it again to see its spectra.", key=f"bare-{edit}"
        )
        return
    loaded = session.load_edit(edit)
    fits.notices(report)
    has_cut = panels.has_cut(report)
    if has_cut:
        panels.movable_cut(loaded, report, fits.caption(loaded), prefix=f"cut-{edit}")
    # How far layers move and where answers go stands below of every edit, beside a random one.
    elsewhere = ("edit-size", "moved-", *(("spectrum-",) if has_cut else ()))
    fits.pictures(report, fits.caption(loaded), prefix=f"spectra-{edit}", drawn_already=elsewhere)


frame.page("Spectra", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
