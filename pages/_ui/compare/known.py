"""Compare: what a set knows of the answer to a prompt, beside what the lanes say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.state import part, state
from workbench.conversations import Prompt
from workbench.data.known import KnownAnswer, known_answers
from workbench.errors import BadDemonstrations

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.workspace.shipped import Offer

# A larger set is looked through only while it is the open one.
_MANY = 20_000
_SAID = {
    "right": ":green[:material/check:] gives the known answer",
    "wrong": ":red[:material/close:] gives the answer that is known to be false",
    "neither": ":gray[:material/question_mark:] gives neither known answer",
}


@dataclass
class Known:
    """What was found last, and for which prompts and sets."""

    asked: tuple[object, ...] = ()
    found: tuple[KnownAnswer | None, ...] = ()


def known(session: Session, prompts: Sequence[Prompt]) -> tuple[KnownAnswer | None, ...]:
    """What the open set knows of each prompt, else the first other set that asks it."""
    mine, offers, open_set = part(Known), session.demos.list(), state().set_name
    asked = (tuple(prompts), open_set, tuple((offer.id, offer.saved.version if offer.saved else 0) for offer in offers))
    if mine.asked != asked:
        mine.asked, mine.found = asked, _found(session, prompts, sorted(offers, key=lambda offer: offer.id != open_set))
    return mine.found


def _found(session: Session, prompts: Sequence[Prompt], offers: Sequence[Offer]) -> tuple[KnownAnswer | None, ...]:
    found: list[KnownAnswer | None] = [None] * len(prompts)
    for i, offer in enumerate(offers):
        if all(found):
            break
        if i and offer.n > _MANY:
            continue
        try:
            rows = session.demos(offer.id)
        except BadDemonstrations:  # its own page says what is wrong with it
            continue
        found = [old or new for old, new in zip(found, known_answers(rows, prompts))]
    return tuple(found)


def told(answer: KnownAnswer | None) -> None:
    """The known answers of a prompt, in a line."""
    if answer is not None:
        good, bad = (" / ".join(text.strip() for text in texts[:3]) for texts in (answer.positive, answer.negative))
        against = f"; false: {words.plain(bad)}" if bad else ""
        st.caption(f"Known answer, by the set {words.plain(answer.source)}: **{words.plain(good)}**{against}")


def verdict(answer: KnownAnswer | None, text: str) -> None:
    """Whether a lane's text gives the known answer."""
    if answer is not None:
        st.caption(_SAID[answer.given(text)])
