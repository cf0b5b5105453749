"""Inspect: what can be done with a cell of the logit lens, each an edit there that runs at once beside the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from pages._ui.kit.state import part, state
from workbench.conversations import Prompt, Turn
from workbench.edits.lane import Lane, Named

if TYPE_CHECKING:
    from workbench.lenses.cell_edits import Draft
    from workbench.lenses.logit_lens import LogitLens
    from workbench.progress import Progress
    from workbench.session import Session

# Verb → its button's word, what it asks for, and what it does.
VERBS: dict[str, tuple[str, str, str]] = {
    "swap": ("Swap with", "another word, as Germany", "What this cell holds where the prompt has another word there."),
    "steer": ("Steer toward", "a token, as ␣Berlin", "Along the direction in which the token gains most, as far as it takes to win."),
    "patch": ("Patch from", "another prompt", "What the cell as far from the end holds in another prompt."),
    "ablate": ("Ablate", "", "The mean of the other tokens in its place."),
}
Shown = tuple[str, Mapping[str, Any]]
"""The lens, and which part of the prompt it shows, as its arguments."""
Drafted = tuple["Draft", "LogitLens"]
DRAFT: jobs.Slot[Cell, Drafted] = jobs.Slot("cell-draft")


@dataclass(frozen=True)
class Cell:
    """A verb at one layer (−1: the embedding) and token of a prompt, with what it asks for, beside the lanes that are on."""

    prompt: Prompt
    layer: int
    pos: int
    verb: str
    given: str
    targets: tuple[str, ...]
    shown: Shown
    lanes: Lanes


@dataclass
class Drafts:
    """The drafts whose lanes were turned on once: who takes one off does not get it back."""

    shown: set[str] = field(default_factory=set[str])


def verbs(
    prompt: Prompt, layer: int, pos: int, targets: tuple[str, ...], seen: Shown,
    shown: Callable[[LogitLens, Lanes], object],
) -> None:  # fmt: skip
    """Draw a cell's verbs and the draft that the last one made.

    Args:
        shown: takes the lens with the draft as its last lane, and the lanes that are on now.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", key="cell-verbs"):
        verb = st.segmented_control(
            "Make an edit here", list(VERBS), format_func=lambda name: VERBS[name][0], default="swap", key="cell-verb", required=True
        )
        verb = verb or "swap"
        given = ""
        if asks := VERBS[verb][1]:
            given = st.text_input(
                "With", key=f"cell-{verb}", placeholder=asks, persist_state="session", label_visibility="collapsed", width=200
            )
        settings = Cell(prompt, layer, pos, verb, given, targets, seen, lanes_on())
        frame.act("Make the edit", _make, settings, type="primary", key="cell-make", disabled=bool(asks) and not given.strip())
    st.caption(VERBS[verb][2])
    kept = jobs.settings_of(DRAFT)
    now = settings if kept is None else replace(settings, lanes=kept.lanes)  # the draft's own lane came after it
    jobs.panel(DRAFT, lambda made: _draft(made, shown), settings=now)


def _make(settings: Cell) -> None:
    prompt, given = settings.prompt, settings.given.replace("␣", " ")
    if settings.verb == "patch" and not isinstance(prompt, str):
        source: Prompt = replace(prompt, turns=(*prompt.turns[:-1], Turn("user", given)))
    else:
        source = given

    def work(session: Session, progress: Progress) -> Drafted:
        cell = (settings.layer, settings.pos, settings.verb, source)
        draft = session.look("cell_edit", prompt, *cell, progress=progress.part(0.0, 0.5))
        session.shelf.draft(draft.edit)
        stacks = [*with_base(settings.lanes), Lane((Named(draft.edit.id, 1.0),))]
        lens, part = settings.shown
        seen = session.look(lens, prompt, targets=settings.targets, **part, stacks=stacks, progress=progress.part(0.5, 1.0))
        return draft, seen

    jobs.start(DRAFT, "Making an edit of this cell", work, settings)


def _draft(made: Drafted, shown: Callable[[LogitLens, Lanes], object]) -> None:
    draft, lens = made
    key = draft.edit.id
    if key not in part(Drafts).shown:
        part(Drafts).shown.add(key)
        state().turn_on(key)
        shown(lens, lanes_on())
        st.rerun()
    said(draft, words.plain(draft.says))


def said(draft: Draft, says: str) -> None:
    """Draw what the model says with a draft and without it, in bars and a sentence, and what can be done with it."""
    from workbench.figures.basic import next_token_bars

    key = draft.edit.id
    bars = [
        (name, [(words.token(token), share) for token, share in tops])
        for name, tops in (("base", draft.before), ("the draft", draft.after))
    ]
    facts = draft.edit.header.facts
    where = words.provenance(
        model=draft.edit.header.model.name, edit=key[:8], n="1 prompt", where=f"layer {facts['layer']}, {words.token(facts['at'])}"
    )
    figure_panel(next_token_bars("What the model says next", bars), draft.rows(), where, key="cell-said", says=says)
    with st.container(horizontal=True):
        if st.button("Compare the answers", key="cell-compare", type="primary"):
            if not state().is_on(key):
                state().turn_on(key)
            st.switch_page("pages/compare.py")
        if state().is_on(key):
            st.button("Turn it off", key="cell-off", on_click=state().turn_off, args=(key,))
        else:
            st.button("Turn it on", key="cell-on", on_click=state().turn_on, args=(key,))
