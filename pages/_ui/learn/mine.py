"""What one learner did in all lessons, as a table that they can take along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.state import state
from workbench.workspace.learning import progress_csv

if TYPE_CHECKING:
    from workbench.session import Session


def progress(session: Session) -> None:
    """A row a step, kept over restarts, with its CSV."""
    rows = session.workspace.learning.own_rows(state().owner)
    if not rows:
        frame.empty("Each step that you do will stand here, with what you saw.", "Begin a lesson.", key="progress")
        return
    st.dataframe(list(rows), hide_index=True, width="stretch", key="progress-table")
    st.download_button("CSV", progress_csv(rows), "retouch-lessons.csv", "text/csv", key="progress-csv", on_click="ignore")
