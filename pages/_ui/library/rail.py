"""The rail: what was done last, in the bar beside every page; a click opens a run as it was.

Folded it costs nothing: no run is read, and no page's panels are imported, before it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import streamlit as st

from pages._ui.kit import frame, words
from pages._ui.kit.backend import session
from pages._ui.kit.state import part
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session

_SHOWN, _SOUGHT = 8, 200
_OPENS = "Opens its page with its controls and what it came to, as they were."


@dataclass
class Rail:
    """The run that was asked for in the rail, by id, why the last one could not be opened, and whether the rail is open: on every page."""

    of_tab: ClassVar[bool] = True
    asked: str = ""
    error: RetouchError | None = None
    is_open: bool = False


def take() -> None:
    """Open the run that was asked for; call it before the page is drawn, since it sets the controls of pages."""
    mine, opened = part(Rail), session()
    if not mine.asked or opened is None:
        return
    from pages._ui.library.history import reopened  # the panels of three pages take a moment to import

    asked, mine.asked = mine.asked, ""
    try:
        page = reopened(opened, opened.workspace.runs.get(asked))
    except RetouchError as error:
        mine.error = error
        return
    st.switch_page(page)


@st.fragment
def rail() -> None:
    """Draw the rail, folded at first; to open it draws nothing else anew."""
    mine = part(Rail)
    st.session_state.setdefault("rail", mine.is_open)  # Streamlit forgets it with each change of page
    folded = st.expander("Recent runs", icon=":material/history:", key="rail", on_change="rerun", type="compact")
    mine.is_open = bool(folded.open)
    if (opened := session()) is None or not mine.is_open:
        return
    with folded:
        if mine.error is not None:
            frame.problem(mine.error, "rail")
        try:
            _runs(opened, mine)
        except RetouchError as error:  # the workspace may be locked or full; the page beside it still works
            frame.problem(error, "rail-runs")
        st.page_link("pages/library.py", label="All runs", icon=":material/list:")


def _runs(opened: Session, mine: Rail) -> None:
    sought = st.text_input("Search runs", key="rail-search", placeholder="Search", label_visibility="collapsed")
    runs = opened.workspace.runs.list(limit=_SOUGHT if sought else _SHOWN)
    if sought:
        from workbench.workspace.history import found_in

        runs = found_in(runs, sought)[:_SHOWN]
    if not runs:
        st.caption("No run says that." if sought else "Your fits, comparisons and evaluations will be listed here.")
    for run in runs:
        pin = "📌 " if run.is_pinned else ""
        label = f"{pin}**{run.kind}** · {words.plain(run.note or run.title)} · {words.ago(run.created)}"
        if st.button(label, key=f"rail-{run.id}", type="tertiary", help=_OPENS, width="stretch"):
            mine.asked, mine.error = run.id, None
            st.rerun()
