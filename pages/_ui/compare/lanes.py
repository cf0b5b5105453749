"""Compare: the lanes, their edits and doses; one edit at any doses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.compare import acting, running, texts
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.doses import dose_slider
from pages._ui.kit.lanes import known_edits, lane_name, own_dose, story_link, usable_lanes
from pages._ui.kit.said import prompt_lane
from pages._ui.kit.state import MAX_LANES, option, state
from workbench.edits.lane import HIGHEST_DOSE, LOWEST_DOSE, Lane, Named, valid_dose
from workbench.errors import BadDose
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.session import Prompt, Session

DOSES = (0.25, 0.5, 1.0, 2.0)
STRIP: jobs.Slot[CompareSettings, Comparison] = jobs.Slot("doses")


def lane_controls(session: Session, prompts: Sequence[Prompt]) -> tuple[tuple[Lane, ...], tuple[int, ...]]:
    """Choose edits, up to five, their doses and how they act; return the lanes, and those that keep the base's attention."""
    known = known_edits(session)
    lanes = usable_lanes(session)
    key = "compare-edits"
    names = {(edit,): name for edit, name in known.items()} | {option(lane): lane_name(session, lane) for lane in lanes}
    st.session_state[key] = [option(lane) for lane in lanes]
    st.multiselect(
        "Edits", list(names), format_func=names.__getitem__, key=key, max_selections=MAX_LANES, on_change=_choose, args=(session, key),
        placeholder="Add an edit as a lane",
    )  # fmt: skip
    for i, lane in enumerate(lanes):
        for j, edit in enumerate(lane.edits):
            slider = f"dose-{'+'.join(option(lane))}-{j}"
            st.session_state[slider] = edit.written_dose
            name = f"{'ABCDE'[i]}  {known[edit.key]}"
            dose_slider(f"Dose of {words.plain(name)}", key=slider, on_change=_dose, args=(i, j, slider))
            story_link(edit.key, key=f"compare-story-{i}-{j}")
        acting.control(session, lane, i, known, prompts)
    prompt_lane(session, _add, key="compare")
    return lanes, acting.frozen(lanes)


def _choose(session: Session, key: str) -> None:
    """Keep the lanes that are still chosen, and add the edits that are new."""
    now, chosen = state(), st.session_state[key]
    now.lanes = tuple(lane for lane in now.lanes if option(lane) in chosen)
    kept = {option(lane) for lane in now.lanes}
    for keys in chosen:
        if keys not in kept:
            now.turn_on(keys[0], own_dose(session, keys[0]))


def _add(lane: Lane) -> None:
    now = state()
    now.lanes = (*(one for one in now.lanes if option(one) != option(lane)), lane)[-MAX_LANES:]


def _dose(at: int, part: int, key: str) -> None:
    now, dose = state(), st.session_state[key]
    edits = [Named(edit.key, dose, edit.written_place) if j == part else edit for j, edit in enumerate(now.lanes[at].edits)]
    now.lanes = tuple(replace(lane, edits=tuple(edits)) if i == at else lane for i, lane in enumerate(now.lanes))


# One edit, several doses.
def dose_strip(session: Session, lanes: Sequence[Lane], settings: CompareSettings) -> None:
    """One edit at any doses on the first prompt, beside the untouched model."""
    if not any(lane.keys for lane in lanes):
        return
    known = known_edits(session)
    with st.expander("Dose strip: one edit at several doses"):
        edits = list(dict.fromkeys(edit for lane in lanes for edit in lane.keys))
        edit = st.selectbox("Edit", edits, format_func=lambda key: str(known.get(key, key)), key="strip-edit")
        doses = _doses()
        wanted = replace(
            settings, prompts=settings.prompts[:1], frozen=(), where=(), lanes=tuple(Lane((Named(edit, dose),)) for dose in doses)
        )
        frame.act("Run these doses", running.begin, STRIP, wanted, key="strip-run", disabled=not doses)
        jobs.panel(STRIP, lambda found: texts.strip_of_doses(session, found), settings=wanted, live=texts.live)


def _doses() -> list[float]:
    """The doses, as many as there are lanes; any number can be typed."""
    told = f"Type any from {LOWEST_DOSE:g} to {HIGHEST_DOSE:g}; the untouched model stands beside them."
    offered = sorted({*DOSES, -1.0, 0.75, 1.5, 3.0})
    given: Sequence[Any] = st.multiselect(
        "Doses", offered, default=DOSES, key="strip-doses", accept_new_options=True, max_selections=MAX_LANES, persist_state="session",
        help=told,
    )  # fmt: skip
    found: list[float] = []
    for one in given:
        try:
            found.append(valid_dose(float(one)))
        except (ValueError, BadDose):
            st.caption(f":orange[{words.plain(str(one))} is no dose from {LOWEST_DOSE:g} to {HIGHEST_DOSE:g}.]")
    return sorted(dict.fromkeys(found))
