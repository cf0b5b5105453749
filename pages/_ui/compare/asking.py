"""Compare: what the lanes are asked: prompts one a line, a box each, one conversation turn by turn, or rows of a set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.prompts import MOST, parted, prompts, switch, system_turn, what_is_read
from pages._ui.kit.rows import rows_of
from pages._ui.kit.state import part, state
from workbench.conversations import Conversation, Prompt, Role, Turn
from workbench.data.demonstrations import SPLITS

if TYPE_CHECKING:
    from workbench.session import Session

KEY = "compare-prompts"
LINES, BOXES, TALK, ROWS = "Lines", "One by one", "Conversation", "Rows of a set"
PROMPTS = "Question: What do carrots help most? Answer:\nQuestion: Where do diamonds come from? Answer:"
ASKED = "What is the capital of France?\nWhy is the sky blue? Answer in one sentence."


@dataclass
class Boxes:
    """The prompts of the boxes, and the text of lines that they were taken from; boxes are drawn anew under another `turn`."""

    texts: list[str] = field(default_factory=list[str])
    of: str | None = None
    turn: int = 0


@dataclass
class Talk:
    """The turns of the conversation; its boxes are drawn anew under another `turn`."""

    turns: list[Turn] = field(default_factory=lambda: [Turn("user", ASKED.splitlines()[0])])
    turn: int = 0


def asked(session: Session) -> tuple[Prompt, ...]:
    """Draw the ways to ask and the chosen one; return its prompts."""
    from workbench.models.chat import has_template

    ways = [LINES, BOXES, *([TALK] if has_template(session.model.tokenizer) else []), ROWS]
    if st.session_state.get("compare-ask") not in ways:
        st.session_state["compare-ask"] = LINES
    if part(Boxes).of not in (None, st.session_state.get(KEY)) and st.session_state["compare-ask"] != LINES:
        st.session_state["compare-ask"] = LINES  # another page has put its prompts there
    way = st.segmented_control("Ask", ways, key="compare-ask", required=True, label_visibility="collapsed", persist_state="session")
    part(Boxes).of = None if way == LINES else st.session_state.get(KEY)
    if way == BOXES:
        return _boxes(session)
    if way == TALK:
        return _talk()
    if way == ROWS:
        return _rows(session)
    label = "Prompts, one a line; with an empty line between them they may be longer"
    return prompts(session, label, PROMPTS, key=KEY, asks=ASKED)


def _boxes(session: Session) -> tuple[Prompt, ...]:
    """A box a prompt, of any length, with empty lines or without."""
    mine, chat = part(Boxes), switch(session, KEY)
    if not mine.texts:
        mine.texts = parted(str(st.session_state.get(KEY) or PROMPTS))[:MOST]
    for i, text in enumerate(mine.texts):
        with st.container(horizontal=True, vertical_alignment="bottom", key=f"compare-box-{mine.turn}-{i}-row"):
            key = f"compare-box-{mine.turn}-{i}"
            mine.texts[i] = st.text_area(f"Prompt {i + 1}", text, key=key, height="content", width="stretch")
            st.button(
                "Remove", icon=":material/close:", key=f"{key}-remove", on_click=_remove, args=(i,), type="tertiary",
                disabled=len(mine.texts) == 1,
            )  # fmt: skip
    st.button("Add a prompt", icon=":material/add:", key="compare-box-add", on_click=_add, disabled=len(mine.texts) >= MOST)
    chat = system_turn(session, KEY, chat)
    found = tuple(chat.put(text) for text in mine.texts if text.strip())
    what_is_read(session, found, KEY)
    return found


def _remove(at: int) -> None:
    mine = part(Boxes)
    del mine.texts[at]
    mine.turn += 1


def _add() -> None:
    part(Boxes).texts.append("")


def _talk() -> tuple[Prompt, ...]:
    """One conversation, every turn of which can be edited; the model answers, or goes on within an assistant's last turn."""
    mine = part(Talk)
    roles: tuple[Role, ...] = ("system", "user", "assistant")
    for i, turn in enumerate(list(mine.turns)):
        key = f"compare-turn-{mine.turn}-{i}"
        with st.container(horizontal=True, vertical_alignment="bottom", key=f"{key}-row"):
            role = st.selectbox("Role", roles, index=roles.index(turn.role), key=f"{key}-role", width=130, label_visibility="collapsed")
            text = st.text_area("Turn", turn.text, key=key, height="content", width="stretch", label_visibility="collapsed")
            st.button(
                "Remove", icon=":material/close:", key=f"{key}-remove", on_click=_cut, args=(i,), type="tertiary",
                disabled=len(mine.turns) == 1, help="Takes this turn out.",
            )  # fmt: skip
        mine.turns[i] = Turn(role, text)
    nxt: Role = "user" if mine.turns[-1].role != "user" else "assistant"
    st.button(f"Add a turn of the {nxt}", icon=":material/add:", key="compare-turn-add", on_click=_say, args=(Turn(nxt, ""),))
    turns = tuple(turn for turn in mine.turns if turn.text.strip())
    return (Conversation(turns),) if any(turn.role != "system" for turn in turns) else ()


def _cut(at: int) -> None:
    mine = part(Talk)
    del mine.turns[at]
    mine.turn += 1


def _say(turn: Turn) -> None:
    part(Talk).turns.append(turn)


def talks() -> bool:
    """Whether one conversation is what is asked."""
    return st.session_state.get("compare-ask") == TALK


def answered(text: str) -> None:
    """Take a lane's answer into the conversation, and let the user speak next: for callbacks."""
    mine = part(Talk)
    if mine.turns and mine.turns[-1].role == "assistant":  # it was gone on with within this turn
        mine.turns[-1] = Turn("assistant", mine.turns[-1].text + text)
    else:
        mine.turns.append(Turn("assistant", text.strip()))
    mine.turns.append(Turn("user", ""))
    mine.turn += 1


def _rows(session: Session) -> tuple[Prompt, ...]:
    """Rows of a set, whose known answers stand beside the lanes."""
    chat = switch(session, KEY)
    offers = {offer.id: offer for offer in session.demos.list()}
    now = state()
    if now.set_name not in offers:
        now.set_name = "truthfulness" if "truthfulness" in offers else next(iter(offers), "")
    st.session_state["compare-set"] = now.set_name
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Set", list(offers), format_func=lambda name: offers[name].title, key="compare-set", on_change=_pick, width=280)
        split = st.selectbox("Split", SPLITS, index=2, key="compare-split", persist_state="session", width=130)
        rows = rows_of(session, now.set_name)
        mine = [] if rows is None else [row for row in rows.split(split) if str(row.prompt).strip()]
        n = st.number_input("Rows", 1, MOST, 3, key="compare-rows", persist_state="session", width=110)
        most = max(1, len(mine) - int(n) + 1)
        first = st.number_input("From row", 1, most, min(most, int(st.session_state.get("compare-from", 1))), key="compare-from", width=110)
    found = tuple(dict.fromkeys(row.prompt for row in mine[int(first) - 1 : int(first) - 1 + int(n)]))
    if not found:
        st.caption(f"The set has no row of split {split}; choose another.")
    for prompt in found:
        st.text(str(prompt))
    chat = system_turn(session, KEY, chat)
    if mine:
        st.caption(words.plain(f"Rows {int(first)} to {int(first) + int(n) - 1} of {len(mine)}, split {split}."))
    return tuple(chat.put(prompt) if isinstance(prompt, str) else prompt for prompt in found)


def _pick() -> None:
    state().set_name = st.session_state["compare-set"]
