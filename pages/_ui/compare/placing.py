"""Compare: where a lane's edits act, chosen by name or by the text that they wait for, and drawn on the tokens of the first prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import running
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.state import option, part, state
from workbench.edits.lane import Lane, Named
from workbench.errors import BadPlace, RetouchError
from workbench.place import LABELS, ROLES, after, read_place

if TYPE_CHECKING:
    from workbench.session import Prompt, Session

TEXT, REGEX = "after", "after regex"
_AFTER = {TEXT: "after a text", REGEX: "after a regular expression"}


@dataclass
class Placing:
    """What this tab has begun to say: lanes that wait for a text, and what was wrong with one."""

    waiting: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    wrong: dict[tuple[str, ...], BadPlace] = field(default_factory=dict[tuple[str, ...], BadPlace])


def place_of(lane: Lane) -> str:
    """The place of a lane: that of its first edit, as the control sets all of them; empty as they act by themselves."""
    return lane.edits[0].written_place if lane.edits else ""


def control(session: Session, lane: Lane, at: int, prompts: Sequence[Prompt], key: str) -> None:
    """Choose the place; say what is wrong with it, or draw where it is."""
    from workbench.models.chat import has_template

    mine, place, who = part(Placing), place_of(lane), option(lane)
    kinds = {"": "as it acts by itself", **{name: label for name, label in LABELS.items() if name not in ROLES}}
    kinds |= {f"first {n}": read_place(f"first {n}").label for n in (4, 16)}
    kinds |= {role: LABELS[role] for role in ROLES if has_template(session.model.tokenizer)} | _AFTER
    now = read_place(place) if place else None
    own = "" if now is None else (REGEX if now.is_regex else TEXT) if now.name == "after" else now.name
    kind = mine.waiting.get(who, own)
    if now is not None:
        kinds.setdefault(own, now.label)
    st.session_state[f"{key}-where"] = kind
    st.selectbox(
        "Where it acts", list(kinds), format_func=kinds.__getitem__, key=f"{key}-where", on_change=_choose, args=(who, at, key),
        help="For edits of activations; an edit of weights acts at every token. A gate of the fit decides token by token beside it.",
    )  # fmt: skip
    if kind in _AFTER:
        before = now.text if now is not None and own == kind else ""
        st.text_input(
            "Which one", before, key=f"{key}-{kind}", on_change=_wait, args=(who, at, key, kind),
            placeholder="[0-9]+" if kind == REGEX else "Answer:",
            help="It acts from the token on that completes it, in the prompt or in what is generated.",
        )  # fmt: skip
    if (error := mine.wrong.get(who)) is not None:
        frame.problem(error, f"{key}-where")
    elif place and prompts:
        _strip(session, lane, at, prompts[0], key)
        if len(lane.edits) == 1:
            st.button(
                "Make it a part of the edit", key=f"{key}-keep", on_click=_keep, args=(session, at),
                help="Another edit, at hand in this lane's place: saved, its place goes with it.",
            )  # fmt: skip


def _strip(session: Session, lane: Lane, at: int, prompt: Prompt, key: str) -> None:
    """The tokens of a prompt and of what the lane answered to it last, those at which it acts dashed."""
    from workbench.methods.shared.touched import acted_on
    from workbench.models.placing import acts_at

    place, found, of = place_of(lane), jobs.result(running.COMPARE), jobs.settings_of(running.COMPARE)
    asked = lane.prompting.on(prompt) if lane.prompting else prompt
    is_mine = found is not None and of is not None and [one.keys for one in of.lanes[at : at + 1]] == [lane.keys]
    said = found.texts[0][at + 1].tokens if found is not None and is_mine and found.prompts[0] == prompt else ()
    try:
        tokens, n_prompt = session.token_texts(asked)
        if read_place(place).reads_text:
            acts = acts_at(session.model, place, asked, [token.id for token in said])
        else:
            acts = acted_on(place, len(tokens) + len(said), n_prompt)
    except RetouchError as error:  # the comparison will say so too
        st.caption(f":orange[{words.plain(str(error))}]")
        return
    strip = [*tokens, *(token.text for token in said)]
    token_strip(strip, key=f"{key}-drawn", marks=["write" if on else "" for on in acts], twin=False)
    st.caption("Dashed: the tokens that it acts at. The prompt's last one decides the first of the answer.")


def put(at: int, place: str) -> None:
    """Let the edits of a lane act at a place."""
    now = state()
    now.lanes = tuple(lane.acting(place) if i == at else lane for i, lane in enumerate(now.lanes))


def _choose(who: tuple[str, ...], at: int, key: str) -> None:
    mine, kind = part(Placing), st.session_state[f"{key}-where"]
    mine.waiting.pop(who, None)
    mine.wrong.pop(who, None)
    if kind in _AFTER:
        mine.waiting[who] = kind
    else:
        put(at, kind)


def _wait(who: tuple[str, ...], at: int, key: str, kind: str) -> None:
    mine = part(Placing)
    mine.wrong.pop(who, None)
    try:
        put(at, after(st.session_state[f"{key}-{kind}"], is_regex=kind == REGEX))
    except BadPlace as error:
        mine.wrong[who] = error
        return
    mine.waiting.pop(who, None)


def _keep(session: Session, at: int) -> None:
    """Put an edit that has the lane's place as its own in the place of the lane's."""
    now = state()
    lane = now.lanes[at]
    ((_, dose),) = lane.doses
    key = session.shelf.keep_placed(lane.edits[0])
    now.lanes = tuple(replace(lane, edits=(Named(key, dose),)) if i == at else one for i, one in enumerate(now.lanes))
