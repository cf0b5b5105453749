"""Retouch in the browser: theme, navigation, status bar. `retouch app`, or `streamlit run app.py`."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import streamlit as st

from pages._ui.kit import backend, components, frame, lanes, loading, state, status
from pages._ui.learn import classes, panel
from pages._ui.library import rail

PAGES = Path(__file__).resolve().parent / "pages"
# Title, file, icon; in the order of the loop: load, inspect, collect, fit, compare, measure, keep.
MENU = (
    ("Start", "start.py", ":material/home:"),
    ("Model", "model.py", ":material/deployed_code:"),
    ("Inspect", "inspect.py", ":material/search:"),
    ("Demonstrations", "demonstrations.py", ":material/table_rows:"),
    ("Edit", "edit.py", ":material/tune:"),
    ("Compare", "compare.py", ":material/compare:"),
    ("Spectra", "spectra.py", ":material/equalizer:"),
    ("Senses", "senses.py", ":material/hub:"),
    ("Evaluate", "evaluate.py", ":material/fact_check:"),
    ("Library", "library.py", ":material/inventory_2:"),
    ("Learn", "learn.py", ":material/school:"),
    ("Story", "story.py", ":material/badge:"),
)
# One edit's own page: other pages and links lead there, and the menu, which is of the loop, does not.
HIDDEN = ("Story",)


def main() -> None:
    """Draw the frame, then the page, then write the state into the URL."""
    st.set_page_config(page_title="Retouch", page_icon=frame.ICON, layout="wide", initial_sidebar_state="auto")
    st.logo(frame.LOGO, size="large")
    frame.styles()
    backend.boot()
    state.state()
    classroom = classes.joined()
    menu = [
        st.Page(
            PAGES / file, title=title, icon=icon, default=title == "Start",
            visibility="visible" if title not in HIDDEN and classes.is_offered(title, classroom) else "hidden",
        )
        for title, file, icon in MENU
        if (PAGES / file).exists()
    ]  # fmt: skip
    chosen = st.navigation(menu, expanded=True)
    offered = [item for item in menu if item.title not in HIDDEN and classes.is_offered(item.title, classroom)]
    frame.enter(menu)
    loading.take_model()
    if (why := backend.workspace_problem()) is not None:  # nothing works without one, so it stands in place of every page
        frame.problem(why, "workspace")
        return
    lanes.check_link()
    rail.take()
    with st.sidebar:
        bar = st.container(key="statusbar")
        components.browser(chosen.title, panel.shows())
        beside = st.container(key="rail-place")
    draw = chosen.run if classes.is_offered(chosen.title, classroom) else partial(classes.elsewhere, chosen.title, offered)
    try:
        panel.beside(chosen.title, draw)
    except Exception as error:  # a page's own mistake: shown where the page is, never as a traceback
        logging.getLogger(__name__).exception("The page %s failed", chosen.title)
        frame.problem(error, "page")
    if loading.take_model():
        st.rerun()
    # After the page: what the page just started is shown at once.
    with bar:
        status.status_bar()
    with beside:
        rail.rail()
    status.badge()
    state.keep_url()


main()
