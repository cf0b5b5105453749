"""The prompt of a page, and the guard that says when its next token would be a space or an end."""

from __future__ import annotations

import streamlit as st

from pages._ui.kit.words import plain


def prompt(label: str, default: str, *, key: str, tall: bool = False, help: str = "") -> str:  # noqa: A002 - the widget's own word
    """Draw a prompt box; return its text as typed. Below it the guard, with its mend."""
    if key not in st.session_state:
        st.session_state[key] = default
    draw = st.text_area if tall else st.text_input
    text = draw(label, key=key, persist_state="session", help=help or None)
    found = trouble(text)
    if found:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":orange[{plain(found[0])}]")
            st.button("Mend it", key=f"{key}-mend", type="tertiary", on_click=_set, args=(key, found[1]))
    return text


def trouble(text: str) -> tuple[str, str] | None:
    """What is wrong with the end of a prompt, and the prompt mended; None if nothing."""
    if text != text.rstrip():
        return "The prompt ends in a space: the next word would begin without its own.", text.rstrip()
    if text.endswith((".", "!", "?")) and "\n" not in text:
        return "The prompt ends in a full stop: the likeliest next token starts a new sentence.", text.rstrip(".!?")
    return None


def _set(key: str, text: str) -> None:
    st.session_state[key] = text
