"""Evaluate: put the controls back as a recorded run had them, and its result where it stood."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.evaluate import contest, edits, influence, off_target, plane, watch
from pages._ui.evaluate.prompts import Beside
from pages._ui.kit import jobs
from pages._ui.kit.lanes import at_hand
from pages._ui.kit.state import part, state
from workbench.errors import Obstructed
from workbench.settings import EvaluateSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.edits.lane import Lane
    from workbench.session import Session
    from workbench.workspace.runs import Run

# Of each kind of run, the view that shows it and the place in it.
VIEWS: Mapping[str, tuple[str, jobs.Slot[Any, Any]]] = {
    "evaluate": ("Edits", edits.EVALUATE),
    "sweep": ("Edits", edits.SWEEP),
    "equal damage": ("At equal damage", contest.CONTEST),
    "watch": ("Long watch", watch.WATCH),
    "influence": ("Which did it", influence.INFLUENCE),
    "off target": ("Off target", off_target.OFF_TARGET),
    "dose plane": ("Dose plane", plane.PLANE),
}


def restore(session: Session, run: Run) -> None:
    """Restore a run; call it before the page is drawn.

    Raises:
        StorageFailed: its result cannot be read.
    """
    from workbench.workspace.history import recorded_lanes, result_of

    view, slot = VIEWS.get(run.kind, ("", None))
    found = result_of(run, session.workspace.runs)
    state().set_name = session.demos.called(str(run.inputs.get("demonstrations", ""))) or state().set_name
    lanes = tuple(at_hand(session, lane) for lane in recorded_lanes(run))
    wanted = _controls(session, run, lanes) if view == "Edits" else None
    if slot is not None:
        if found is not None:
            jobs.put(slot, found, wanted if run.kind == "evaluate" else None)
        else:
            jobs.fail(
                slot, Obstructed("What this run came to is not on record: an older version kept its settings alone.", "Run it again.")
            )
    if view:
        st.session_state["evaluate-ask"] = view


def _controls(session: Session, run: Run, lanes: tuple[Lane, ...]) -> EvaluateSettings | None:
    """The edits at their doses, the prompts beside them, rows, placebos; what they ask for together."""
    from workbench.workspace.history import evaluate_settings

    now, single = st.session_state, [lane for lane in lanes if len(lane.edits) == 1 and lane.prompting is None]
    now["evaluate-edits"] = list(dict.fromkeys(lane.keys[0] for lane in single))
    now.update({f"evaluate-dose-{key}": dose for lane in single for key, dose in lane.doses})
    part(Beside).lanes = tuple(lane for lane in lanes if lane.prompting is not None and not lane.edits)
    if run.kind != "evaluate":
        return None
    found = replace(evaluate_settings(run, state().set_name), lanes=lanes)
    now.update({"evaluate-placebos": found.n_placebos, "evaluate-shuffled": found.shuffled, "evaluate-split": found.split})
    return found
