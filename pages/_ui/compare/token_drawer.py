"""Compare: what can be done with an answer and with one of its tokens: keep it as a demonstration, look at what else was likely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.kit import words
from workbench.conversations import Prompt
from workbench.data.cutting import first_sentence

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison, LaneText
    from workbench.session import Session
    from workbench.settings import CompareSettings


def picked(text: LaneText, pinned: int | None, key: str) -> int | None:
    """The selector that does the same as a click on a token; return the token that is pinned."""
    names = [f"{j}  {words.token(token.text)}" for j, token in enumerate(text.tokens)]
    return st.selectbox(
        "Token", range(len(names)), index=pinned, format_func=names.__getitem__, key=f"{key}-twin-{pinned}", placeholder="Pin a token",
        label_visibility="collapsed",
    )  # fmt: skip


def drawer(session: Session, found: Comparison, of: CompareSettings, p: int, pinned: Mapping[int, int], key: str) -> None:
    """What base and lane would have said at each pinned token."""
    for lane, at in pinned.items():
        token, label = found.texts[p][lane].tokens[at], found.lanes[lane].label
        rows = [{"lane": "base", "token": words.token(name), "probability": share} for name, share in token.base_top]
        if lane:
            rows += [{"lane": label, "token": words.token(name), "probability": share} for name, share in token.top]
        with st.container(key=f"{key}-{p}-{lane}-top"):
            st.dataframe(rows, hide_index=True)


def taken(text: LaneText, pinned: int | None) -> str:
    """What a thumb takes: the answer's first sentence, or the answer up to the pinned token."""
    if pinned is None:
        return first_sentence(text.answer)
    whole = "".join(token.text for token in text.tokens)
    start = whole.rfind(text.answer) if text.thinking else 0
    return "".join(token.text for token in text.tokens[: pinned + 1])[max(start, 0) :].rstrip() or first_sentence(text.answer)


def thumbs(session: Session, prompt: Prompt, text: str, key: str) -> None:
    """The two buttons that keep a text as the prompt's good or bad answer."""
    with st.container(horizontal=True, gap="small"):
        for good, sign, word in ((True, ":material/thumb_up:", "positive"), (False, ":material/thumb_down:", "negative")):
            st.button(
                word, icon=sign, key=f"{key}-{word}", type="tertiary", on_click=_judge, args=(session, prompt, text, good),
                help=f"Adds to the demonstrations as a {word}: {words.plain(text.strip())}  \nPin a token to end it there.",
            )  # fmt: skip


def _judge(session: Session, prompt: Prompt, text: str, good: bool) -> None:
    """Add a judged answer; a prompt that has the other side already gets both in one row."""
    try:
        title = sets.judge(session, prompt, text, good)
    except Exception as error:  # shown as a toast; nothing else depends on it
        st.toast(words.plain(f"{error} {getattr(error, 'hint', '')}"))
        return
    st.toast(f"Added to {words.plain(title)} as a {'positive' if good else 'negative'}.")
