"""Evaluate: put the controls back as a recorded run had them, and its result where it stood."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.evaluate import contest, design, edits, influence, off_target, plane, protocol, watch
from pages._ui.evaluate.prompts import Beside
from pages._ui.kit import jobs
from pages._ui.kit.lanes import at_hand
from pages._ui.kit.prompts import put_back
from pages._ui.kit.state import part, state
from workbench.conversations import read_prompt
from workbench.errors import Obstructed, RetouchError
from workbench.settings import DesignSettings, DosePlaneSettings, EqualDamageSettings, InfluenceSettings, OffTargetSettings, RefitSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.edits.lane import Lane
    from workbench.session import Session
    from workbench.workspace.runs import Run

# Of each kind of run, the view that shows it and the place in it.
VIEWS: Mapping[str, tuple[str, jobs.Slot[Any, Any]]] = {
    "evaluate": ("Edits", edits.EVALUATE),
    "sweep": ("Edits", edits.SWEEP),
    "equal damage": ("At equal damage", contest.CONTEST),
    "protocol": ("Canonical examples", protocol.PROTOCOL),
    "design": ("Design", design.SEARCH),
    "watch": ("Long watch", watch.WATCH),
    "influence": ("Which did it", influence.INFLUENCE),
    "refit": ("Which did it", influence.AGAIN),
    "off target": ("Off target", off_target.OFF_TARGET),
    "dose plane": ("Dose plane", plane.PLANE),
}
_N = 1000


def restore(session: Session, run: Run) -> None:
    """Restore a run; call it before the page is drawn.

    Raises:
        Obstructed: no view shows runs of its kind. StorageFailed: its result cannot be read.
    """
    from workbench.workspace.history import recorded_lanes, result_of

    if run.kind not in VIEWS:
        raise Obstructed(f"A run of the kind {run.kind} has no page.", "Its settings and numbers stand in Library, under Runs.")
    view, slot = VIEWS[run.kind]
    found = result_of(run, session.workspace.runs)
    state().set_name = session.demos.called(str(run.inputs.get("demonstrations", ""))) or state().set_name
    asked = _CONTROLS[run.kind](session, run, tuple(at_hand(session, lane) for lane in recorded_lanes(run)))
    st.session_state["evaluate-ask"] = view
    if found is None:
        jobs.fail(slot, Obstructed("What this run came to is not on record: an older version kept its settings alone.", "Run it again."))
    elif run.kind == "refit":
        _refit(session, run, found, asked)
    else:
        jobs.put(slot, protocol.Compared(asked, found, {}) if run.kind == "protocol" else found, asked, is_on_record=True)


def _refit(session: Session, run: Run, measured: Any, asked: Any) -> None:
    """The fit without some rows, under what showed which ones, where that is on record."""
    from workbench.evaluate.influence import Refit
    from workbench.workspace.history import result_of

    earlier = [one for one in session.workspace.runs.list("influence", _N) if one.created <= run.created]
    shown = next((one for one in earlier if one.inputs.get("lanes") == run.inputs.get("lanes")), None)
    if shown is not None and (found := result_of(shown, session.workspace.runs)) is not None:
        jobs.put(influence.INFLUENCE, found, _by_settings(session, shown, ()), is_on_record=True)
    try:
        edit = session.load_edit(str(run.outputs["edit"]))
    except RetouchError as error:  # nobody saved it, and it is gone with its process
        jobs.fail(influence.AGAIN, error)
        return
    jobs.put(influence.AGAIN, Refit(edit, tuple(run.inputs["drop"]), measured), asked, is_on_record=True)


def _edits(session: Session, run: Run, lanes: tuple[Lane, ...]) -> object:
    """The edits at their doses, the prompts beside them, rows, placebos; what they ask for together."""
    from workbench.workspace.history import evaluate_settings

    now, single = st.session_state, [lane for lane in lanes if len(lane.edits) == 1 and lane.prompting is None]
    now["evaluate-edits"] = list(dict.fromkeys(lane.keys[0] for lane in single))
    now.update({f"evaluate-dose-{key}": dose for lane in single for key, dose in lane.doses})
    part(Beside).lanes = tuple(lane for lane in lanes if lane.prompting is not None and not lane.edits)
    if run.kind == "sweep":
        now["evaluate-split"] = run.inputs["split"]
        return edits.Swept(lanes[0].keys[0], state().set_name, run.inputs["split"], part(Beside).lanes)
    found = replace(evaluate_settings(run, state().set_name), lanes=lanes)
    now.update({"evaluate-placebos": found.n_placebos, "evaluate-shuffled": found.shuffled, "evaluate-split": found.split})
    return found


def _watch(session: Session, run: Run, lanes: tuple[Lane, ...]) -> object:
    prompt, tokens = read_prompt(run.inputs["prompt"]), int(run.inputs["max_new_tokens"])
    put_back(prompt, key="watch-prompt")
    with_edits = tuple(lane for lane in lanes if lane.edits)
    st.session_state.update({"watch-edits": _keys(with_edits), "watch-tokens": tokens})
    return watch.Watching(prompt, with_edits, tokens)


def _protocol(session: Session, run: Run, _: Any) -> object:
    told, model, chosen = run.inputs, session.model, state().set_name
    rules = protocol.put_rules(told["rules"])
    method, draws, seeds = str(told["method"]), int(told.get("draws", 5)), len(told.get("seeds", range(5)))  # else the protocol's own
    now = st.session_state
    now.update({"protocol-set": chosen, f"protocol-methods-{chosen}-{model.info.name}": [method]})
    now.update({"protocol-draws": draws, "protocol-seeds": seeds})
    return protocol.Contest(model.info.name, model.fingerprint.weights, chosen, (method,), draws, seeds, rules)


def _by_settings(session: Session, run: Run, _: Any) -> Any:
    """The controls of a view whose settings are on record; None where an older version kept too little of them."""
    from workbench.workspace.recorded import settings_of

    asked, now = settings_of(run, lambda lane: at_hand(session, lane), session.demos.called), st.session_state
    of = f"{state().set_name}-{session.model.info.name}"
    if isinstance(asked, DesignSettings):
        now.update({f"design-methods-{of}": list(asked.methods), "design-trials": asked.trials, "design-control": asked.control})
    elif isinstance(asked, DosePlaneSettings):
        now.update({"plane-layer": asked.layer, "plane-edits": _keys(asked.lanes)})
    elif isinstance(asked, EqualDamageSettings):
        part(Beside).lanes = tuple(lane for lane in asked.lanes if not lane.edits)
        now.update({f"contest-methods-{of}": list(asked.methods), "contest-edits": _keys(asked.lanes)})
        now.update({"contest-limit": asked.limit, "contest-shuffled": asked.shuffled})
    elif isinstance(asked, InfluenceSettings):
        now.update({"influence-edit": asked.lane.keys[0], f"influence-split-{asked.source}": asked.split})
        now["influence-fits"] = asked.n_refits
    elif isinstance(asked, RefitSettings):
        now.update({"influence-edit": asked.lane.keys[0], f"influence-drop-{asked.lane.keys[0]}": list(asked.drop)})
    elif isinstance(asked, OffTargetSettings):
        now.update({"off-target-edits": _keys(asked.lanes), "off-target-stacks": asked.stacks})
        now.update({"off-target-sets": list(asked.sources), "off-target-kept": list(asked.protected)})
    return asked


def _keys(lanes: tuple[Lane, ...]) -> list[str]:
    return [lane.keys[0] for lane in lanes if lane.edits]


_CONTROLS: Mapping[str, Callable[[Session, Run, tuple[Lane, ...]], Any]] = {
    **dict.fromkeys(("evaluate", "sweep"), _edits),
    **dict.fromkeys(("equal damage", "design", "influence", "refit", "off target", "dose plane"), _by_settings),
    "protocol": _protocol,
    "watch": _watch,
}
