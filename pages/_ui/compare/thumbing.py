"""Compare: several samples of one prompt, one shown at a time; keys go through them and judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import token_drawer
from pages._ui.kit import words
from pages._ui.kit.state import part
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.session import Session

# Letters, since arrows move sliders and the token strip.
BACK, NEXT, GOOD, BAD = "K", "J", "G", "B"


@dataclass
class Judged:
    """What this tab judged: by prompt and text, the side that it was put on."""

    side: dict[tuple[Prompt, str], str] = field(default_factory=dict[tuple[Prompt, str], str])


def shown(session: Session, found: Comparison, draws: Sequence[int], key: str, *, has_keys: bool) -> int:
    """Which of several draws of a prompt is shown: the buttons, and with `has_keys` the keys, go round and judge."""
    if len(draws) == 1:
        return draws[0]
    name = f"{key}-{draws[0]}-draw"
    at = int(st.session_state.get(name, 0)) % len(draws)
    with st.container(horizontal=True, vertical_alignment="center", key=f"{name}-row"):
        for label, icon, step, letter in (
            ("Previous", ":material/chevron_left:", -1, BACK), ("Next", ":material/chevron_right:", 1, NEXT),
        ):  # fmt: skip
            st.button(
                label, icon=icon, key=f"{name}-{'next' if step > 0 else 'back'}", on_click=_turn, args=(name, at + step), type="tertiary",
                shortcut=letter if has_keys else None,
            )  # fmt: skip
        st.text(f"Sample {at + 1} of {len(draws)}", width="content")
        if has_keys:
            _judge(session, found, draws, (name, at))
    return draws[at]


def _judge(session: Session, found: Comparison, draws: Sequence[int], where: tuple[str, int]) -> None:
    """The two buttons that judge the shown sample of one lane and go on to the next sample."""
    name, at = where
    lanes = range(len(found.lanes))
    lane = len(lanes) - 1
    if len(lanes) > 1:
        told = st.segmented_control(
            "Judge", lanes, default=lane, format_func=lambda i: "·ABCDE"[i], key=f"{name}-lane", required=True,
            label_visibility="collapsed", help="Whose sample the keys judge.",
        )  # fmt: skip
        lane = int(told)
    prompt, text = found.prompts[draws[at]], token_drawer.taken(found.texts[draws[at]][lane], None)
    for label, icon, good, letter in (("Good", ":material/thumb_up:", True, GOOD), ("Bad", ":material/thumb_down:", False, BAD)):
        st.button(
            label, icon=icon, key=f"{name}-{label.lower()}", on_click=_thumb, args=(session, prompt, text, good, where), type="tertiary",
            shortcut=letter, disabled=not text.strip(), help="Keeps its first sentence as a demonstration, and goes on to the next sample.",
        )  # fmt: skip
    mine = part(Judged).side
    n = sum((prompt, token_drawer.taken(found.texts[p][lane], None)) in mine for p in draws)
    st.caption(f"{n} of {words.count(len(draws), 'sample')} judged" + (f"; this one is {now}" if (now := mine.get((prompt, text))) else ""))


def _thumb(session: Session, prompt: Prompt, text: str, good: bool, where: tuple[str, int]) -> None:
    if token_drawer.judge(session, prompt, text, good):
        part(Judged).side[prompt, text] = "good" if good else "bad"
        _turn(where[0], where[1] + 1)


def _turn(name: str, to: int) -> None:
    st.session_state[name] = to
