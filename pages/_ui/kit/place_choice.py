"""The control of where an edit acts, chosen by name or by the text that it waits for: the same for a lane and for a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.state import part
from workbench.errors import BadPlace
from workbench.place import LABELS, ROLES, after, read_place

if TYPE_CHECKING:
    from workbench.session import Session

_TEXT, _REGEX = "after", "after regex"
_AFTER = {_TEXT: "after a text", _REGEX: "after a regular expression"}
_FIRST = (4, 16)


@dataclass
class Placing:
    """What this tab has begun to say, by the control's key: that it is to wait for a text, and what was wrong with one."""

    waiting: dict[str, str] = field(default_factory=dict[str, str])
    wrong: dict[str, BadPlace] = field(default_factory=dict[str, BadPlace])


def place_key(name: str) -> str:
    """Where the form keeps the place at which a method's edit is to act; empty: where its knobs say."""
    return f"fit-place-{name}"


def place_choice(session: Session, place: str, put: Callable[[str], None], *, key: str) -> bool:
    """Draw the choice as it stands at `place`, which `put` changes; whether what was typed last is a place."""
    from workbench.models.chat import has_template

    mine = part(Placing)
    kinds = {"": "as it acts by itself", **{name: label for name, label in LABELS.items() if name not in ROLES}}
    kinds |= {f"first {n}": read_place(f"first {n}").label for n in _FIRST}
    kinds |= {role: LABELS[role] for role in ROLES if has_template(session.model.tokenizer)} | _AFTER
    now = read_place(place) if place else None
    own = "" if now is None else (_REGEX if now.is_regex else _TEXT) if now.name == "after" else now.name
    kind = mine.waiting.get(key, own)
    if now is not None:
        kinds.setdefault(own, now.label)
    st.session_state[f"{key}-where"] = kind
    st.selectbox(
        "Where it acts", list(kinds), format_func=kinds.__getitem__, key=f"{key}-where", on_change=_choose, args=(key, put),
        help="For edits of activations; an edit of weights acts at every token. A gate of the fit decides token by token beside it.",
    )  # fmt: skip
    if kind in _AFTER:
        before = now.text if now is not None and own == kind else ""
        st.text_input(
            "Which one", before, key=f"{key}-{kind}", on_change=_wait, args=(key, kind, put),
            placeholder="[0-9]+" if kind == _REGEX else "Answer:",
            help="It acts from the token on that completes it, in the prompt or in what is generated.",
        )  # fmt: skip
    if (error := mine.wrong.get(key)) is not None:
        frame.problem(error, f"{key}-where")
    return error is None


def _choose(key: str, put: Callable[[str], None]) -> None:
    mine, kind = part(Placing), st.session_state[f"{key}-where"]
    mine.waiting.pop(key, None)
    mine.wrong.pop(key, None)
    if kind in _AFTER:
        mine.waiting[key] = kind
    else:
        put(kind)


def _wait(key: str, kind: str, put: Callable[[str], None]) -> None:
    mine = part(Placing)
    mine.wrong.pop(key, None)
    try:
        put(after(st.session_state[f"{key}-{kind}"], is_regex=kind == _REGEX))
    except BadPlace as error:
        mine.wrong[key] = error
        return
    mine.waiting.pop(key, None)
