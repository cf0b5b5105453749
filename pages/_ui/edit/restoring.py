"""Edit: put the form back as a recorded fit had it, and the fit with its verdict where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.edit import fitting, methods
from pages._ui.kit import jobs, scope
from pages._ui.kit.place_choice import place_key
from pages._ui.kit.state import state
from workbench.errors import RetouchError
from workbench.settings import NO_RIVALS, Rivals

if TYPE_CHECKING:
    from workbench.edits.base import Edit
    from workbench.edits.lane import Lane
    from workbench.session import Session
    from workbench.workspace.runs import Run

_N = 1000


def restore(session: Session, run: Run) -> None:
    """Restore a run; call it before the page is drawn. An edit that nobody saved is gone with its process: that is said on the page.

    Raises:
        StorageFailed: its verdict cannot be read.
    """
    told, key = run.inputs, str(run.outputs.get("edit", ""))
    state().set_name = session.demos.called(str(told.get("demonstrations", ""))) or state().set_name
    scope.hand_knobs(str(told["method"]), dict(told["config"]), f"run {run.id}", said="all its knobs")
    st.session_state["fit-seed"] = run.seed or 0
    try:
        edit = session.load_edit(key)
    except RetouchError as error:
        jobs.fail(fitting.FIT, error)
        return
    state().edit = key
    outcome = _outcome(session, run, edit)
    jobs.put(fitting.FIT, outcome, outcome.settings, is_on_record=True)


def _outcome(session: Session, run: Run, edit: Edit) -> fitting.FitOutcome:
    """The fit, and the first evaluation of it on record, with the controls as both had them."""
    from workbench.methods.registry import FitReport, Fitted
    from workbench.workspace.history import recorded_lanes, result_of

    runs = session.workspace.runs
    later = sorted((one for one in runs.list("evaluate", _N) if one.created >= run.created), key=lambda one: one.created)
    judged = next((one for one in later if [lane.keys for lane in recorded_lanes(one)[:1]] == [(edit.id,)]), None)
    lanes = recorded_lanes(judged) if judged else ()
    dose, rivals = (float(lanes[0].doses[0][1] or 1.0), _rivals(lanes)) if lanes else (edit.dose, NO_RIVALS)
    found = result_of(judged, runs) if judged else None
    fitted = Fitted(edit.dosed(1.0), session.report(edit.id) or FitReport())
    settings = _controls(session, run, edit, dose, rivals)
    return fitting.FitOutcome(fitted, found, settings, "" if found else "No verdict on it is on record. The page Evaluate measures it.")


def _rivals(lanes: tuple[Lane, ...]) -> Rivals:
    """The sentences that an edit was measured beside: the opposite one stands with the edit too, as `Rivals.lanes` has them."""
    against = next((lane.prompting.prefix for lane in lanes if lane.edits and lane.prompting), "")
    said = next((lane.prompting.prefix for lane in lanes if not lane.edits and lane.prompting), "")
    return Rivals("" if said == against else said, against)


def _controls(session: Session, run: Run, edit: Edit, dose: float, rivals: Rivals) -> Any:
    """Set dose, rivals and rendering in the form; what it asks for then."""
    from workbench.data.demonstrations import Demonstrations
    from workbench.models.chat import has_template

    chosen, name, head = state().set_name, edit.header.method, edit.header
    rows = session.demos(chosen) if chosen else Demonstrations(())
    st.session_state[methods.dose_key(name)], st.session_state[place_key(name)] = dose, edit.place
    st.session_state.update(zip(methods.rival_keys(chosen), (rivals.said, rivals.against)))
    chat = bool(head.rendered) if has_template(session.model.tokenizer) and not rows.is_chat else None
    if chat is not None:
        methods.set_chat(session, rows, chat, head.system)
    return fitting.fit_settings(chosen, rows, name, dict(run.inputs["config"]), run.seed or 0, dose, chat, rivals, head.system, edit.place)
