"""Inspect: target and distractor as the single tokens they are, typed or taken from what the model itself would say next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from workbench.conversations import Prompt
from workbench.errors import BadPrompt, RetouchError

if TYPE_CHECKING:
    from workbench.progress import Progress
    from workbench.session import Session

FIELDS = {"inspect-target": "Target", "inspect-distractor": "Distractor"}
NEXT: jobs.Slot[Prompt, list[tuple[str, float]]] = jobs.Slot("next-tokens")
_MOST = 8


def targets(session: Session, prompt: Prompt, defaults: tuple[tuple[str, str], tuple[str, str]]) -> tuple[str, ...]:
    """Draw both fields; return the words that a lens can follow, none of those that are no single token.

    Args:
        session: its tokenizer says what a field's token is.
        prompt: what the model would go on with.
        defaults: of target and distractor, each after a text and after a question in a chat.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for (key, label), told in zip(FIELDS.items(), defaults):
            if st.session_state.get(key, told[0]) in told:
                st.session_state[key] = told[0] if isinstance(prompt, str) else told[1]
            st.text_input(label, key=key, placeholder="a word, with its space", persist_state="session", width=220)
        st.button("Swap", icon=":material/swap_horiz:", key="inspect-swap", on_click=_swap)
        frame.act("What would it say?", _look, prompt, key="inspect-next", help="The likeliest next tokens, to choose both from.")
    with st.container(horizontal=True):
        target, distractor = (_token(session, key) for key in FIELDS)
    if jobs.result(NEXT) is None or jobs.settings_of(NEXT) == prompt:  # another prompt goes on with other tokens
        jobs.panel(NEXT, _choose)
    # A distractor without a target is none: lenses take the first word for the target.
    return tuple(word for word in (target, distractor) if word and target)


def _token(session: Session, key: str) -> str:
    """The word of a field where it is one token; else why it is none, and its mend."""
    text = str(st.session_state.get(key, ""))
    if not text:
        return ""
    from workbench.models.token_texts import one_token, token_ids

    try:
        one_token(session.model, text)
    except BadPrompt as error:
        other = text.lstrip() if text.startswith(" ") else f" {text}"
        st.caption(f":orange[{words.plain(f'{FIELDS[key]}: {error} {error.hint}')}]")
        if len(token_ids(session.model, other)) == 1:
            st.button(f"Take {words.plain(words.token(other))}", key=f"{key}-mend", type="tertiary", on_click=_set, args=(key, other))
        return ""
    except RetouchError as error:
        frame.problem(error, key)
        return ""
    st.caption(f"{FIELDS[key]} `{words.token(text).replace('`', 'ˋ')}`", width="content")
    return text


def _look(prompt: Prompt) -> None:
    def work(session: Session, progress: Progress) -> list[tuple[str, float]]:
        return session.next_tokens(prompt, _MOST)

    jobs.start(NEXT, "Reading the next token", work, prompt)


def _choose(found: list[tuple[str, float]]) -> None:
    shares = dict(found)
    said = list(shares)
    with st.container(horizontal=True):
        for key, label in FIELDS.items():
            st.pills(
                label, said, format_func=lambda text: f"{words.token(text)} {_share(shares[text])}", key=f"{key}-next",
                on_change=_take, args=(key,),
            )  # fmt: skip


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else "<1%"


def _take(key: str) -> None:
    if (told := st.session_state.get(f"{key}-next")) is not None:
        _set(key, str(told))


def _set(key: str, text: str) -> None:
    st.session_state[key] = text


def _swap() -> None:
    one, other = FIELDS
    st.session_state[one], st.session_state[other] = st.session_state[other], st.session_state[one]
