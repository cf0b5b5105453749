"""The status bar: the model, whether an edit is on and at which dose, what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.backend import backend, session
from pages._ui.kit.frame import act, lane_chip
from pages._ui.kit.jobs import looks_every_s, waiting
from pages._ui.kit.lanes import edit_name, usable_lanes
from pages._ui.kit.state import state
from pages._ui.kit.words import parameters, seconds
from workbench.edits.lane import Lane
from workbench.resources import LOOPBACK
from workbench.workspace.job import Job

if TYPE_CHECKING:
    from workbench.session import Session

_ON = '<div class="on">● EDIT ON</div>'


def status_bar() -> None:
    """Draw the status bar; it moves by itself while something runs."""
    shots = [shot for shot in (job.snapshot() for job in _mine()) if not shot.is_over]
    busy = backend().is_booting or bool(shots)
    st.fragment(_bar, run_every=looks_every_s(shots) if busy else None)(busy)


def badge() -> None:
    """Say in the head of the page that an edit is on; it shows where the bar at the side is folded away."""
    opened = session()
    if opened is not None and usable_lanes(opened):
        with st.container(key="edit-on"):
            st.html(_ON)


def _mine() -> list[Job]:
    """What runs or waits for this person, in this tab or another: a closed tab's work can be stopped from any."""
    return [job for job in backend().jobs.active() if job.owner == state().owner]


def _bar(was_busy: bool) -> None:
    one, opened = backend(), session()
    if (st.get_option("server.address") or "") not in LOOPBACK:
        st.caption(":orange[Anybody on this network can open this page: there is no password.]")
    if opened is None:
        st.text(one.stage if one.is_booting else "no model")
    else:
        info = opened.model.info
        st.text(f"{info.name} · {parameters(info.n_parameters)}\n{info.dtype} · {info.device}")
    # Without a model nothing is on, whatever a link names.
    lanes = () if opened is None else usable_lanes(opened)
    if opened is not None and lanes:
        chips = "".join(lane_chip(i + 1, *_told(opened, lane)) for i, lane in enumerate(lanes))
        st.html(_ON + chips)
        # In a fragment, whose button alone would leave the page as it was.
        act("Turn off", _off, key="status-off", type="tertiary", help="Compare shows the untouched model alone.")
    else:
        st.html('<div class="off">○ BASE</div>')
    mine = _mine()
    for job in mine:
        shot = job.snapshot()
        told = waiting(shot) if shot.state == "queued" else f"{shot.share:.0%}  {seconds(shot.elapsed_s)}"
        st.progress(shot.share, text=f"{shot.title}  {told}")
        st.button("Cancel", key=f"status-cancel-{job.id}", on_click=job.cancel, type="tertiary")
    if was_busy and not mine and not one.is_booting:
        st.rerun()


def _told(opened: Session, lane: Lane) -> tuple[str, float | None]:
    """A lane's name, and its dose where it has one edit; a stack's doses stand in its name."""
    told = [(edit_name(opened, key), dose) for key, dose in lane.doses]
    if len(told) == 1 and lane.prompting is None:
        return told[0]
    names = [name if dose is None else f"{name} ×{dose:g}" for name, dose in told]
    return " + ".join([*names, *([lane.prompting.label] if lane.prompting else [])]), None


def _off() -> None:
    state().lanes = ()
