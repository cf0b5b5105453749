"""Compare: what can be done with an answer and with one of its tokens: keep it as a demonstration, look at what else was likely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import branching, layers
from pages._ui.demonstrations import sets
from pages._ui.kit import frame, words
from pages._ui.kit.state import MAX_LANES, state
from workbench.conversations import Prompt
from workbench.data.cutting import first_sentence
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.evaluate.comparison import ComparedToken, Comparison, LaneText
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
    """For each pinned token: what base and lane would have said there, and what can be done from it."""
    for lane, at in pinned.items():
        text, name = found.texts[p][lane], f"{key}-{p}-{lane}"
        token, label = text.tokens[at], found.lanes[lane].label
        with st.container(border=True, key=f"{name}-drawer"):
            st.html(frame.lane_chip(lane, f"{label}, token {at}: {words.token(token.text)}"))
            left, right = st.columns([2, 3], gap="large")
            with left, st.container(key=f"{name}-top"):
                st.dataframe(_top(token, label, lane), hide_index=True, width="stretch", height=388)
            with right:
                _force(found, of, (p, lane, at), key)
                _span(session, found.prompts[p], text, at, name)
                with st.container(horizontal=True):
                    if st.button("Inspect here", icon=":material/search:", key=f"{name}-inspect", help=_INSPECT):
                        _inspect(session, found, (p, lane, at))
                    if found.lanes[lane].edit_ids and lane - 1 not in of.frozen:
                        layers.ask(found, (p, lane, at), name)
            layers.panel((p, lane, at), found, name)


_INSPECT = "The prompt up to this token in the logit lens, this token as the target and the base's likeliest other as the distractor."


def _top(token: ComparedToken, label: str, lane: int) -> list[dict[str, object]]:
    """The likeliest tokens of base and lane, side by side by rank."""
    sides = [("base", token.base_top), *([(label, token.top)] if lane else [])]
    return [
        {key: value for name, top in sides for key, value in ((name, words.token(top[i][0])), (f"p {name}", round(top[i][1], 4)))}
        for i in range(min(len(top) for _, top in sides))
    ]


def _force(found: Comparison, of: CompareSettings, where: tuple[int, int, int], key: str) -> None:
    """Choose what is said instead; every lane goes on from there."""
    p, lane, at = where
    token = found.texts[p][lane].tokens[at]
    shares: dict[int, tuple[str, float]] = {}
    for ids, top in ((token.top_ids, token.top), (token.base_top_ids, token.base_top)):
        shares |= {id: told for id, told in zip(ids, top) if id not in shares and id != token.id}
    name = f"{key}-{p}-{lane}-force-{at}"
    chosen = st.pills(
        "Say instead", list(shares), format_func=lambda id: f"{words.token(shares[id][0])} {_share(shares[id][1])}", key=name,
        help="All lanes then begin with the text before this token and with this one, and go on freely.",
    )  # fmt: skip
    told = None if chosen is None else shares[chosen][0]
    with st.container(horizontal=True):
        frame.act(
            "Branch here", branching.begin, of, found, where, token.id if chosen is None else chosen, told or token.text, key,
            key=f"{name}-go", disabled=chosen is None, type="primary",
        )  # fmt: skip


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else "<1%"


def _span(session: Session, prompt: Prompt, text: LaneText, at: int, name: str) -> None:
    """Keep part of the answer as the good or the bad answer of its prompt."""
    n = len(text.tokens)
    if n < 2:
        return
    first, last = st.slider("Span of the answer", 0, n - 1, (0, at) if at else (0, 1), key=f"{name}-span-{at}")
    span = "".join(token.text for token in text.tokens[first : last + 1])
    if (cut := first_sentence(span)) != span.rstrip() and st.toggle("End it with its sentence", True, key=f"{name}-span-cut"):
        span = cut
    st.text(span)
    thumbs(session, prompt, span, f"{name}-span")


def _inspect(session: Session, found: Comparison, where: tuple[int, int, int]) -> None:
    """Open Inspect on the text up to a token, with the lane on."""
    from workbench.models.token_texts import text_so_far

    p, i, at = where
    tokens, lane = found.texts[p][i].tokens, found.lanes[i]
    asked = lane.prompting.on(found.prompts[p]) if lane.prompting else found.prompts[p]
    try:
        text = text_so_far(session.model, asked, [token.id for token in tokens[:at]])
    except RetouchError as error:
        st.toast(words.plain(f"{error} {error.hint}"))
        return
    token, now = tokens[at], state()
    other = next((name for name, _ in token.base_top if name != token.text), "")
    st.session_state.update({"inspect-prompt": text, "inspect-prompt-chat": False, "inspect-lens": "Logit lens"})
    st.session_state.update({"inspect-target": token.text, "inspect-distractor": other})
    if lane.edit_ids and replace(lane.lane, prompting=None) not in now.lanes:
        now.lanes = (*now.lanes, replace(lane.lane, prompting=None))[-MAX_LANES:]
    st.switch_page("pages/inspect.py")


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
    judge(session, prompt, text, good)


def judge(session: Session, prompt: Prompt, text: str, good: bool) -> bool:
    """Add a judged answer, and say whether that worked; a prompt that has the other side already gets both in one row."""
    try:
        title = sets.judge(session, prompt, text, good)
    except Exception as error:  # shown as a toast; nothing else depends on it
        st.toast(words.plain(f"{error} {getattr(error, 'hint', '')}"))
        return False
    st.toast(f"Added to {words.plain(title)} as a {'positive' if good else 'negative'}.")
    return True
