"""A page with the panel of the lesson beside it: AppTest runs a page's file alone, without the app that draws the panel."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pages._ui.kit import frame, loading, state  # noqa: E402
from pages._ui.learn import classes, panel  # noqa: E402

state.state()
loading.take_model()
frame._drawn.set()
classes.joined()
asked = st.session_state.pop("asked-page", None)
if asked is not None:
    st.session_state["at-page"] = asked
title = st.session_state.get("at-page", "Learn")


def page() -> None:
    path = ROOT / "pages" / f"{title.lower()}.py"
    real, st.switch_page = st.switch_page, go
    link, st.page_link = st.page_link, lambda path, label, icon: st.caption(label)
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
    finally:
        st.switch_page, st.page_link = real, link


def go(path: str) -> None:
    """As `st.switch_page`, which knows the pages of an app alone."""
    st.session_state["at-page"] = Path(path).stem.title()
    st.rerun()


panel.beside(title, page)
