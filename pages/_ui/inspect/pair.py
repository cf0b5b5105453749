"""Inspect: the second prompt that a clean run is set against."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, words
from workbench.conversations import Prompt, Turn
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session

_EXAMPLE_SET = "name-swaps"


def second(session: Session, prompt: Prompt) -> Prompt | None:
    """Draw the corrupted prompt and the example; return it once both prompts are there and differ."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_area(
            "Corrupted prompt", key="inspect-corrupt", persist_state="session", height="content",
            placeholder="the same prompt with the word changed that decides, as many tokens",
        )  # fmt: skip
        st.button("Try a name swap", key="inspect-example", on_click=example, args=(session,), help="Fills all four fields.")
    if str(prompt).strip() and text.strip() and text != prompt:
        return text if isinstance(prompt, str) else replace(prompt, turns=(*prompt.turns[:-1], Turn("user", text)))
    return None


def corrupted(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> Prompt | None:
    """Draw the corrupted prompt and the example; return it once prompt, target and distractor are there."""
    text = second(session, prompt)
    if text is not None and len(targets) == 2:
        return text
    lacking = "a target and a distractor above" if len(targets) < 2 else "a corrupted prompt that differs"
    frame.empty("What each place brings back will stand here.", f"Write {lacking}, or try a name swap.", key="patch-need")
    return None


def example(session: Session) -> None:
    """Fill all four fields from a shipped row in which one name stands once and the giver's twice, and the same with the giver changed."""
    try:
        rows = session.demos(_EXAMPLE_SET)
    except RetouchError as error:
        st.toast(words.plain(f"{error} {error.hint}"))
        return
    for row in rows:
        good, bad, text = row.positive or "", row.negative or "", str(row.prompt)
        if good and bad and text.count(good) == 1 and text.count(bad) == 2:
            head, _, tail = text.rpartition(bad)
            st.session_state.update(
                {
                    "inspect-prompt": text,
                    "inspect-prompt-chat": False,
                    "inspect-corrupt": f"{head}{good}{tail}",
                    "inspect-target": good,
                    "inspect-distractor": bad,
                }
            )
            return
