"""Compare: how a lane's edits act: at which tokens, with the base's attention or their own, and one after which other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import placing, stacked
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.lanes import own_dose
from pages._ui.kit.state import option, part, state
from workbench.edits.lane import Dosed, Lane, Named
from workbench.place import read_place

if TYPE_CHECKING:
    from workbench.progress import Progress
    from workbench.session import Prompt, Session

GATE: jobs.Slot[str, str] = jobs.Slot("gate")
"""Its settings are the edit, its result the edit with a probe."""


@dataclass
class Acting:
    """What this tab said of its lanes, by what they are chosen by."""

    frozen: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    ungated: dict[str, str] = field(default_factory=dict[str, str])
    """Edits that got a probe here, and the one that each was without."""


def frozen(lanes: Sequence[Lane]) -> tuple[int, ...]:
    """The lanes that keep the base's attention, as `CompareSettings` takes them."""
    return tuple(i for i, lane in enumerate(lanes) if option(lane) in part(Acting).frozen)


def control(session: Session, lane: Lane, at: int, known: Mapping[str, str], prompts: Sequence[Prompt]) -> None:
    """The popover of one lane; a lane that is only a prompt acts nowhere."""
    if not lane.edits:
        return
    mine, key = part(Acting), f"acts-{'+'.join(option(lane))}"
    place = placing.place_of(lane)
    told = [words.plain(read_place(place).label)] if place else []
    told += ["the base's attention"] if option(lane) in mine.frozen else []
    with st.popover(f"How {'ABCDE'[at]} acts{': ' if told else ''}{', '.join(told)}", icon=":material/tune:", key=f"{key}-pop"):
        placing.control(session, lane, at, prompts, key)
        if lane.prompting is None:
            st.toggle(
                "Keep the base's attention", option(lane) in mine.frozen, key=f"{key}-frozen", on_change=_freeze,
                args=(option(lane), f"{key}-frozen"),
                help="Every head looks where the untouched model does on this text: what the edit still does is not by looking elsewhere.",
            )  # fmt: skip
        _gate(session, lane, at, key)
        _stacked(session, lane, at, known, key)


def _gate(session: Session, lane: Lane, at: int, key: str) -> None:
    """Let a probe decide token by token whether the lane's one edit acts; the gated edit takes its place, and gives it back."""
    mine = part(Acting)
    if len(lane.edits) != 1:
        return
    (edit,) = lane.keys
    if edit in mine.ungated:
        st.caption("A probe decides token by token: it acts where the text is like the answers of its demonstrations.")
        st.button("Take the probe off", key=f"{key}-ungate", on_click=_swap, args=(at, edit, mine.ungated[edit]))
        return
    frame.act(
        "Act only while a probe fires", _begin_gate, edit, key=f"{key}-gate",
        help="Fits a probe at each site: answers of its demonstrations against neutral text, of which at most 1 % may pass (CAST).",
    )  # fmt: skip
    if jobs.settings_of(GATE) == edit or jobs.is_running(GATE):
        jobs.panel(GATE, lambda gated: st.button("Use the gated edit", key=f"{key}-gated", on_click=_swap, args=(at, edit, gated)))
    elif (error := state().failed.get(GATE.name)) is not None:
        frame.problem(error, f"{key}-gate")


def _begin_gate(edit: str) -> None:
    def work(session: Session, progress: Progress) -> str:
        from workbench.workspace.story import gated_as_fitted

        return gated_as_fitted(session.model, session.shelf, session.workspace, session.demos, edit, progress)

    jobs.start(GATE, "Fitting the probe", work, edit)


def _swap(at: int, old: str, new: str) -> None:
    """Put one edit in the place of another, at its dose, acting where that one did."""
    mine, now = part(Acting), state()
    lane = now.lanes[at]
    given = replace(lane, edits=tuple(Named(new, dose) for _, dose in lane.doses)).acting(placing.place_of(lane))
    if mine.ungated.pop(old, None) != new:
        mine.ungated[new] = old
    mine.frozen |= {option(given)} if option(lane) in mine.frozen else set()
    now.lanes = tuple(given if i == at else one for i, one in enumerate(now.lanes))


def _freeze(lane: tuple[str, ...], key: str) -> None:
    (part(Acting).frozen.add if st.session_state[key] else part(Acting).frozen.discard)(lane)


def _stacked(session: Session, lane: Lane, at: int, known: Mapping[str, str], key: str) -> None:
    """The edits of the lane in their order, and another one behind them."""
    if len(lane.edits) > 1:
        st.caption("They act in this order: " + words.plain(", then ".join(known[edit.key] for edit in lane.edits)) + ".")
        st.button("Turn the order round", key=f"{key}-turn", on_click=_set, args=(at, tuple(reversed(lane.edits))))
        if len(lane.edits) == 2:
            stacked.angle(lane.keys[0], lane.keys[1], key)
    others = [edit for edit in known if edit not in lane.keys]
    if others:
        chosen = st.selectbox("Then also", others, index=None, format_func=known.__getitem__, key=f"{key}-also", placeholder="none")
        if chosen is not None:
            st.button("Stack it", key=f"{key}-stack", on_click=_set, args=(at, (*lane.edits, Named(chosen, own_dose(session, chosen)))))


def _set(at: int, edits: tuple[Dosed, ...]) -> None:
    now = state()
    now.lanes = tuple(replace(lane, edits=edits) if i == at else lane for i, lane in enumerate(now.lanes))
