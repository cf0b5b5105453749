"""Demonstrations: one row in view, its prompt and both answers side by side whatever their length, with what differs marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.components import token_strip
from pages._ui.kit.methods import method
from pages._ui.kit.reading import LEGEND, asked, row_strip
from pages._ui.kit.rows import Editor
from pages._ui.kit.state import part, state
from workbench.conversations import Conversation, Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.differing import differing
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.settings import FitSettings

_LONG = 900
"""Letters from which on a text scrolls in a box of its own."""


def panel(session: Session, chosen: str, demonstrations: Demonstrations, picked: tuple[int, ...]) -> int | None:
    """Choose a row, among those picked if there are any, else among those that the table shows; draw it, and return its place."""
    st.header("The pair", anchor=False)
    if not len(demonstrations):
        st.caption("Add a row to see it here.")
        return None
    options = [i for i in picked or part(Editor).places if i < len(demonstrations)]
    if not options:
        st.caption("The filter finds no row.")
        return None
    key = f"set-row-{state().set_name}"  # the browser keeps the words of a box that it knows
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    with st.container(horizontal=True, vertical_alignment="bottom", key="set-picker-row"):
        index = st.selectbox(
            "Row", options, format_func=lambda i: f"{i + 1}  {str(demonstrations[i].prompt)[:80]}", label_visibility="collapsed", key=key
        )
        row = demonstrations[index]
        _star(session, row)
        for step, icon, word in ((-1, ":material/arrow_back:", "Row before"), (1, ":material/arrow_forward:", "Next row")):
            at = options.index(index) + step
            st.button(
                word, icon=icon, key=f"set-row{step}", type="tertiary", disabled=not 0 <= at < len(options),
                on_click=_turn, args=(key, options[min(max(at, 0), len(options) - 1)]),
            )  # fmt: skip
    _sides(session, row)
    with st.expander("As the model reads it"):
        _tokens(session, demonstrations.with_rows([row]), asked(session, chosen, demonstrations))
    return index


def _turn(key: str, index: int) -> None:
    st.session_state[key] = index


def _star(session: Session, row: Demonstration) -> None:
    mark = row.marks[1]
    is_starred = mark in session.workspace.starred()
    word, icon = ("Starred", ":material/star:") if is_starred else ("Star", ":material/star_outline:")
    st.button(word, icon=icon, key="set-star", type="tertiary", on_click=session.workspace.star, args=(mark, not is_starred))


def _sides(session: Session, row: Demonstration) -> None:
    answers = {side: text for side in ("positive", "negative") if (text := getattr(row, side))}
    told = {side: _answer(session, row.prompt, text) for side, text in answers.items()}
    marks: dict[str, list[str]] = {}
    if len(told) == 2:
        marks = {side: ["new" if new else "" for new in news] for side, news in zip(told, differing(told["positive"], told["negative"]))}
    left, *others = st.columns([4, *[3] * max(1, len(told))], gap="medium")
    with left.container(border=True, height=260 if len(str(row.prompt)) > _LONG else "content"):
        st.caption("prompt")
        if isinstance(row.prompt, Conversation):
            for turn in row.prompt.turns:
                st.text(f"{turn.role}: {turn.text}")
        else:
            st.text(row.prompt)
    for side, column in zip(told, others):
        with column.container(border=True, height=260 if len(answers[side]) > _LONG else "content"):
            n = sum(map(bool, marks.get(side, ())))
            st.caption(f"{side} · {words.count(len(told[side]), 'token')}" + (f", {n} not in the other" if marks else ""))
            token_strip(told[side], key=f"set-pair-{side}", marks=marks.get(side), twin=False)
    if not told:
        others[0].caption(f"No answer; label {words.plain(row.label)}." if row.label else "No answer.")
    st.caption(words.plain(" · ".join(filter(None, (row.split, row.id, ", ".join(row.tags[:8]))))))


def _answer(session: Session, prompt: Prompt, text: str) -> tuple[str, ...]:
    tokens, n_prompt = _read(session, prompt, text)
    return tokens[n_prompt:]


def _tokens(session: Session, shown: Demonstrations, settings: FitSettings) -> None:
    """Both sides as the method that is chosen would read them now, which can be another one."""
    from workbench.methods import ordered

    names, row = [one.name for one in ordered()], shown[0]
    st.session_state["set-method"] = settings.method
    st.selectbox(
        "Read by", names, format_func=lambda name: method(name).title, key="set-method", on_change=_choose, width=280,
        help="The method that is chosen on *Edit*, with the knobs and the rendering that its form holds.",
    )  # fmt: skip
    sides = [side for side in ("positive", "negative") if getattr(row, side)]
    titles = sides or [row.label or row.split]
    pairs = zip(sides or ["positive"], titles)
    said = [row_strip(session, shown, side, settings, key=f"set-strip-{side}", title=title) for side, title in pairs]
    bare = "" if sides else "The row has no answer. "
    st.caption(f"{bare}{said[0]} {LEGEND}" if said[0] else f"{bare}Which tokens it reads and writes, this method settles while it fits.")


def _choose() -> None:
    state().method = st.session_state["set-method"]


def _read(session: Session, prompt: Prompt, answer: str | None = None) -> tuple[tuple[str, ...], int]:
    """The tokens of a row as the model has them, and how many are the prompt's; both texts whole where it has no tokens for them."""
    try:
        return session.token_texts(prompt, answer)
    except RetouchError:
        return (str(prompt),) if answer is None else (str(prompt), answer), 1
