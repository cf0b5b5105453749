"""Who sits at this tab: a random word in a cookie, so that a reload and a second tab are the same person and nobody else is."""

from __future__ import annotations

import hashlib
import re
from secrets import token_hex
from typing import Any

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

COOKIE = "retouch_person"
WORD = "person-word"


def word() -> str:
    """The word in the browser's cookie; on its very first visit a new one, which `components.browser` puts there.

    Whoever knows it is the person, so it goes to that browser alone and stands in no link and no file.
    """
    told: dict[str, Any] = st.session_state  # pyright: ignore[reportAssignmentType]
    if WORD not in told:
        brought = str(st.context.cookies.get(COOKIE))
        told[WORD] = brought if re.fullmatch("[0-9a-f]{32}", brought) else token_hex(16)
    return told[WORD]


def person() -> str:
    """The person's name in jobs, unsaved edits and runs: it follows from the word and does not give it away."""
    return hashlib.sha256(word().encode()).hexdigest()[:16]


def tab() -> str | None:
    """The name of this tab, as long as it is connected; None outside a page."""
    found = get_script_run_ctx(suppress_warning=True)
    return None if found is None else found.session_id


def is_open(name: str) -> bool:
    """Whether a tab is connected to this server."""
    return not Runtime.exists() or Runtime.instance().is_active_session(name)
