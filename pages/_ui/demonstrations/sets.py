"""Demonstration sets on a page: a picker, the editor's versions, and answers judged elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations.filtering import Filtered, Wanted, allowed, filters
from pages._ui.kit import frame
from pages._ui.kit.rows import MANY, Editor, editor, merged, places_of
from pages._ui.kit.state import part, state
from pages._ui.kit.words import count, plain
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import ChangedMeanwhile
from workbench.workspace.share import is_class

if TYPE_CHECKING:
    from workbench.data.checks import Check
    from workbench.session import Session
    from workbench.workspace.shipped import Offer

JUDGED = "judged answers"


def picker(session: Session, *, key: str, beside: Callable[[str], object] = lambda _: None) -> str | None:
    """Draw the picker of sets, and `beside` it what belongs to the chosen one; return its id, None if there is none."""
    offers = {offer.id: offer for offer in session.demos.list()}
    if not offers:
        return None
    now = state()
    if now.set_name not in offers:
        now.set_name = next((name for name, offer in offers.items() if offer.is_shipped), next(iter(offers)))
    st.session_state[key] = now.set_name
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"set-picker-{key}"):
        st.selectbox("Demonstrations", list(offers), format_func=lambda name: _title(offers[name]), key=key, on_change=_pick, args=(key,))
        beside(now.set_name)
    about = offers[now.set_name].about
    if about:
        st.caption(plain(about))
    return now.set_name


def _title(offer: Offer) -> str:
    return f"{offer.title}{'' if offer.is_shipped else ' (yours)'} · {count(offer.n, 'row')}"


def _pick(key: str) -> None:
    state().set_name = st.session_state[key]


def table(session: Session, chosen: str, now: Demonstrations, version: int | None, found: Sequence[Check] = ()) -> None:
    """The editable table of a set, or of the rows of it that the filter asks for; each change is a version on disk.

    version: what `now` is, or is made of an older one; None where the set ships. found: what the checks found in it.
    """
    mine, wanted = part(Editor), filters(chosen, now, found)
    # The base changes only when another set, a filter, an undo, a redo or an import asks for it.
    if (mine.chosen, mine.wanted) != (chosen, wanted):
        mine.chosen, mine.wanted, mine.base, mine.turn = chosen, wanted, now, mine.turn + 1
        mine.places, mine.version, mine.error = places_of(now, wanted.text, allowed(session, now, wanted, found)), version, None
    key = f"editor-{mine.turn}"
    shown = mine.base.with_rows(mine.base[i] for i in mine.places)
    editor(shown, key, lambda: save_changes(session, chosen, merged(mine.base, st.session_state[key], mine.places), mine.version))
    if len(shown) < len(mine.base):
        first = "The first " if len(shown) == MANY else ""
        st.caption(f"{first}{count(len(shown), 'row')} of {len(now):,}{', as filtered' if wanted != Wanted() else ''}.")
    if mine.error is not None:
        frame.problem(mine.error, "editor")
    elif version != mine.version:
        st.caption("Another tab has changed this set since.")
        st.button("Show it as it is now", key="set-renew", on_click=mine.restart)


def save_changes(session: Session, chosen: str, changed: Demonstrations, onto: int | None) -> None:
    """Write a version of the set; of a set that ships, a copy, which is chosen then. The table stays as it is on the page.

    onto: the version that was changed; where another tab has made a later one, what is written becomes a set of its own, and is chosen.
    """
    mine = part(Editor)
    try:
        saved = session.demos.save(changed, key=chosen, onto=onto, note="edited")
        mine.error = None
    except ChangedMeanwhile as error:
        mine.error, saved = error, session.demos.info(error.kept).saved
    except Exception as error:  # shown under the table; what was typed is still in it
        mine.error = error
        return
    if saved is not None:
        mine.version = saved.version
        state().set_name = mine.chosen = part(Filtered).of = saved.id


def damaged(session: Session, chosen: str) -> None:
    """The ways out of a version that cannot be read."""
    saved = session.demos.info(chosen).saved
    st.button("Undo", disabled=saved is None or not saved.can_undo, on_click=move, args=(session, chosen, True), key="set-undo")


def move(session: Session, chosen: str, back: bool) -> None:
    """Undo or redo, and draw the table anew."""
    (session.demos.undo if back else session.demos.redo)(chosen)
    part(Editor).restart()


def judge(session: Session, prompt: Prompt, text: str, good: bool) -> str:
    """Add a judged answer to the set of judged answers, in a class to one's own; a row that lacks this side gets it. Return its name."""
    title = f"{JUDGED} {state().owner[:8]}" if is_class() else JUDGED
    side, other = ("positive", "negative") if good else ("negative", "positive")
    answer = text if text[:1].isspace() or not isinstance(prompt, str) else f" {text}"

    def judged(old: Demonstrations) -> Demonstrations:
        rows = list(old.rows)
        at = next((i for i, row in enumerate(rows) if row.prompt == prompt and getattr(row, side) is None and getattr(row, other)), None)
        if at is None:
            rows.append(replace(Demonstration(prompt, id=f"judged-{len(rows):04d}"), **{side: answer}))
        else:
            rows[at] = replace(rows[at], **{side: answer})
        return old.with_rows(rows)

    key = next((offer.id for offer in session.demos.list() if not offer.is_shipped and offer.title == title), None)
    note = "judged on Compare"
    if key is None:
        saved = session.demos.save(judged(Demonstrations((), title)), note=note)
    else:
        saved = session.demos.change(key, judged, note=note)
    part(Editor).restart()
    return saved.name
