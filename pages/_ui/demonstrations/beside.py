"""Demonstrations: beside the table, what the checks found and a row's tokens as the model reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.rows import MANY, Editor
from pages._ui.kit.state import part, state
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.data.checks import Check
    from workbench.progress import Progress
    from workbench.session import Session


CHECKS: jobs.Slot[str, tuple[Check, ...]] = jobs.Slot("checks")


@dataclass
class Checked:
    """What was found last, and in which set and model: every row is read for it."""

    key: tuple[str, str] = ("", "")
    found: tuple[Check, ...] = ()


def checks(session: Session, demonstrations: Demonstrations) -> tuple[int, ...]:
    """Chips of all checks; a choice among those that found something returns its rows."""
    st.header("Checks", anchor=False)
    found = _found(session, demonstrations)
    if found is None:
        return ()
    troubled = {check.title: check for check in found if check.count}
    if not troubled:
        st.caption("Nothing that an edit would learn by accident.")
        return ()
    title = st.pills("Show the rows of", list(troubled), key="set-check")
    if title is None:
        return ()
    st.markdown(troubled[title].advice)
    return troubled[title].rows


def _found(session: Session, demonstrations: Demonstrations) -> tuple[Check, ...] | None:
    """What the checks found, at once or, where there are many rows to read, when asked for; None as long as that has not been done."""
    last, key = part(Checked), (session.model.fingerprint.weights, demonstrations.fingerprint)
    if len(demonstrations) > MANY:
        frame.act("Check all rows", _check, demonstrations, key="checks-run")
        jobs.panel(CHECKS, _chips, settings=demonstrations.fingerprint)
        return jobs.result(CHECKS) if jobs.settings_of(CHECKS) == demonstrations.fingerprint else None
    if last.key != key:
        last.key, last.found = key, session.checks(demonstrations)
    _chips(last.found)
    return last.found


def _chips(found: tuple[Check, ...]) -> None:
    st.html("".join(frame.check_chip(check.title, check.count) for check in found))


def _check(demonstrations: Demonstrations) -> None:
    def work(session: Session, progress: Progress) -> tuple[Check, ...]:
        progress(0.0, "Reading all rows")
        return session.checks(demonstrations)

    jobs.start(CHECKS, "Checking", work, demonstrations.fingerprint)


def row(session: Session, demonstrations: Demonstrations, picked: tuple[int, ...]) -> int | None:
    """Choose a row, among those picked if there are any, and draw its tokens; return its place."""
    st.header("A row as the model reads it", anchor=False)
    if not len(demonstrations):
        st.caption("Add a row to see its tokens.")
        return None
    shown = part(Editor).places if len(demonstrations) > MANY else range(len(demonstrations))
    options = [i for i in picked if i < len(demonstrations)] or [i for i in shown if i < len(demonstrations)]
    if not options:
        st.caption("The filter finds no row.")
        return None
    index = st.selectbox(
        "Row", options, format_func=lambda i: f"{i + 1}  {str(demonstrations[i].prompt)[:60]}", label_visibility="collapsed",
        key=f"set-row-{state().set_name}",  # the browser keeps the words of a box that it knows
    )  # fmt: skip
    _tokens(session, demonstrations[index or 0])
    return index


def _tokens(session: Session, shown: Demonstration) -> None:
    sides = {side: text for side, text in (("positive", shown.positive), ("negative", shown.negative)) if text}
    for side, text in sides.items():
        tokens, n_prompt = _read(session, shown.prompt, text)
        st.caption(f"{side}: {len(tokens)} tokens, {len(tokens) - n_prompt} of them the answer")
        marks = [""] * n_prompt + ["write"] * (len(tokens) - n_prompt - 1) + ["read write"]
        token_strip(tokens, key=f"set-strip-{side}", marks=marks, twin=False)
    if sides:
        st.caption("Dashed: the answer. Double: its last token, where most methods read.")
        return
    tokens, _ = _read(session, shown.prompt)
    st.caption(f"{words.plain(shown.label or shown.split)}: {len(tokens)} tokens")
    token_strip(tokens, key="set-strip-prompt", marks=[""] * (len(tokens) - 1) + ["read"], twin=False)
    st.caption("The row has no answer. Double: the prompt's last token, where a method that reads prompts reads.")


def _read(session: Session, prompt: Prompt, answer: str | None = None) -> tuple[tuple[str, ...], int]:
    """The tokens of a row as the model has them, and how many are the prompt's; both texts whole where it has no tokens for them."""
    try:
        return session.token_texts(prompt, answer)
    except RetouchError:
        return (str(prompt),) if answer is None else (str(prompt), answer), 1
