"""The prompt boxes of pages: a text, or what a user says in a chat; what the model reads of it; and the guard of a text's end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.words import count, plain
from workbench.conversations import Conversation, Prompt, as_chat
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session

MOST = 6
# A mark that templates write: what stands behind it is the template's.
_MARK = re.compile(r"<\|[^|<>]+\|>|<\w+_of_\w+>|\[/?INST\]|</?s>")


@dataclass(frozen=True)
class Chat:
    """How a box puts its text: as it stands, or as a user's turn under a system turn, with or without a thinking part before the answer."""

    is_on: bool = False
    system: str = ""
    thinking: bool | None = None

    def put(self, text: str) -> Prompt:
        """The text as the model is to read it."""
        if not self.is_on:
            return text
        turns = as_chat(text, self.system or None).turns
        return Conversation(turns, self.thinking)


def prompt(session: Session, label: str, default: str, *, key: str, asks: str = "", on_change: Callable[[], None] | None = None) -> Prompt:
    """Draw a prompt box; return its prompt. Below a text the guard, with its mend.

    Args:
        session: its model says whether there is a switch *Chat*, on at first.
        asks: what the box says at first where chat is on.
    """
    chat = switch(session, key)
    _begin(key, asks if chat.is_on and asks else default, (default, asks))
    text = st.text_area(label, key=key, persist_state="session", height="content", on_change=on_change)
    chat = system_turn(session, key, chat)
    if not chat.is_on:
        _guard(text, key)
    found = chat.put(text)
    what_is_read(session, [found] if text.strip() else [], key)
    return found


def put_back(found: Prompt, *, key: str) -> None:
    """Make a box say a prompt that it once said; call it before the box is drawn."""
    talk = isinstance(found, Conversation)
    told = {key: found.asked if talk else found, f"{key}-chat": talk, f"{key}-system": (found.system or "") if talk else ""}
    if talk and found.thinking is not None:
        told[f"{key}-thinking"] = found.thinking
    st.session_state.update(told)


def chat_of(session: Session, key: str) -> Chat:
    """How a box that was drawn puts its text, for callbacks: they run before it is drawn again."""
    from workbench.models.chat import has_template, thinks

    told, tokenizer = st.session_state, session.model.tokenizer
    if not has_template(tokenizer) or not told.get(f"{key}-chat", True):
        return Chat()
    thinking = told.get(f"{key}-thinking", True) if thinks(tokenizer) else None
    return Chat(True, str(told.get(f"{key}-system", "")).strip(), thinking)


def prompts(session: Session, label: str, default: str, *, key: str, asks: str) -> tuple[Prompt, ...]:
    """As `prompt`, for several: one a line, or blocks with an empty line between them."""
    chat = switch(session, key)
    _begin(key, asks if chat.is_on else default, (default, asks))
    text = st.text_area(label, key=key, persist_state="session", height=132)
    chat = system_turn(session, key, chat)
    texts = parted(text)[:MOST]
    if not chat.is_on:
        _guard(text, key)
    found = tuple(chat.put(one) for one in texts)
    what_is_read(session, found, key)
    return found


def parted(text: str) -> list[str]:
    """Prompts of a box: blocks with empty lines between them where there is an empty line, else lines."""
    blocks = re.split(r"\n[ \t]*\n", text.strip("\n"))
    return [part.strip("\n") for part in (blocks if len(blocks) > 1 else text.splitlines()) if part.strip()]


def trouble(text: str) -> tuple[str, str] | None:
    """What is wrong with the end of a prompt, and the prompt mended; None if nothing. The newline of a template is no trailing space."""
    if text != text.rstrip() and not (text.endswith("\n") and _MARK.search(text)):
        what = "a line end: it would go on with a new line" if text.endswith("\n") else "a space: the next word would begin without its own"
        return f"The prompt ends in {what}.", text.rstrip()
    if text.endswith((".", "!", "?")) and "\n" not in text:
        return "The prompt ends in a full stop: the likeliest next token starts a new sentence.", text.rstrip(".!?")
    return None


def _begin(key: str, first: str, known: tuple[str, ...]) -> None:
    """What a box says at first; a text that nobody changed goes with the switch, and a box that somebody emptied stays empty."""
    if st.session_state.get(key) in (None, *(text for text in known if text)):
        st.session_state[key] = first


def switch(session: Session, key: str) -> Chat:
    """Draw the switch *Chat* of a model with a template; return how prompts are put, as far as it says."""
    from workbench.models.chat import has_template

    if not has_template(session.model.tokenizer):
        return Chat()
    told = (
        "The model was made for conversations: your text becomes a turn of the user, by its own template. Off: a text that it goes on with."
    )
    st.session_state.setdefault(f"{key}-chat", True)  # a link, a lesson or a button may have set it before
    return Chat(st.toggle("Chat", key=f"{key}-chat", persist_state="session", help=told))


def system_turn(session: Session, key: str, chat: Chat) -> Chat:
    """Draw the system message, and the switch of a model that thinks first, where chat is on; return how prompts are put."""
    from workbench.models.chat import thinks
    from workbench.models.thinking import thinking_marks

    if not chat.is_on:
        return chat
    with st.container(horizontal=True, vertical_alignment="bottom"):
        system = st.text_input("System message", key=f"{key}-system", persist_state="session", placeholder="none")
        thinking = None
        if thinks(session.model.tokenizer):
            marks = words.listed([f"`{one}`" for one in thinking_marks(session.model.tokenizer)])
            told = f"It thinks between {marks}. Off: that part is left empty, and it answers at once."
            thinking = st.toggle("Think first", True, key=f"{key}-thinking", persist_state="session", help=told)
    return Chat(True, system.strip(), thinking)


def what_is_read(session: Session, found: Sequence[Prompt], key: str) -> None:
    """Draw the tokens of the first prompt, special ones too, for a model with a template."""
    from workbench.models.chat import has_template

    if not found or not has_template(session.model.tokenizer):
        return
    with st.expander("What the model reads"):
        try:
            tokens, _ = session.token_texts(found[0])
        except RetouchError as error:
            frame.problem(error, f"{key}-read")
            return
        token_strip(tokens, key=f"{key}-tokens", twin=False)
        more = f", of the first of {count(len(found), 'prompt')}" if len(found) > 1 else ""
        st.caption(f"{count(len(tokens), 'token')}{more}.")


def _guard(text: str, key: str) -> None:
    found = trouble(text)
    if found:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":orange[{plain(found[0])}]")
            st.button("Mend it", key=f"{key}-mend", type="tertiary", on_click=_set, args=(key, found[1]))


def _set(key: str, text: str) -> None:
    st.session_state[key] = text
