"""Is the gain real, and what did it break?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.evaluate import evaluations, protocol
from pages._ui.kit import calls, frame, jobs, words
from pages._ui.kit.backend import ready
from pages._ui.kit.doses import dose_slider
from workbench.data.demonstrations import Split
from workbench.edits.lane import Lane, Named
from workbench.settings import EvaluateSettings

SPLITS: tuple[Split, ...] = ("test", "validation", "fit")


def main(session: Any) -> None:
    """Edits that are made, or methods at equal degradation."""
    view = st.segmented_control(
        "View", list(VIEWS), default="Edits", key="evaluate-view", required=True, label_visibility="collapsed", persist_state="session"
    )
    VIEWS[view or "Edits"](session)


def _edits(session: Any) -> None:
    """Edits and set beside the table of gains and damages, with the placebo."""
    known = calls.known_edits(session)
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        chosen = sets.picker(session, key="evaluate-set")
        if not known or chosen is None:
            frame.empty("There is no edit to measure yet.", "Fit one first.", key="no-edit")
            st.page_link("pages/edit.py", label="Fit an edit", icon=":material/tune:")
            return
        key = "evaluate-edits"
        on = [edit for lane in calls.lane_key() for edit in lane.keys if edit in known] or list(known)[:1]
        st.session_state[key] = [edit for edit in st.session_state.get(key, on) if edit in known]
        edits = st.multiselect(
            "Edits", list(known), format_func=lambda edit: known[edit], key=key, max_selections=5, persist_state="session"
        )
        split = st.segmented_control("Rows", SPLITS, default="test", key="evaluate-split", required=True)
        lanes = _lanes(session, edits)
        placebos = st.number_input(
            "Placebos", 0, 20, 3, key="evaluate-placebos", persist_state="session", help="Random edits of equal size, averaged row by row."
        )
        settings = EvaluateSettings(lanes, chosen, split, n_placebos=int(placebos))
        frame.act("Evaluate", _begin, settings, type="primary", key="evaluate", width="stretch", disabled=not edits)
        if split == "fit":
            st.caption(":orange[These rows were fitted on: the scores flatter.]")
    with picture:
        jobs.panel("evaluate", _draw, settings=settings, nothing=_nothing)
        _doses(edits, {"set": chosen, "split": split})


def _doses(edits: list[str], settings: dict[str, Any]) -> None:
    """How much of the first edit: a sweep over doses, and the largest that is still coherent."""
    if not edits:
        return
    wanted = {**settings, "edit": edits[0]}
    with st.expander("How much of it? Effect and damage over the dose"):
        with st.container(horizontal=True):
            frame.act("Sweep doses", _sweep, wanted, key="sweep")
            frame.act("Find max coherent dose", _coherent, wanted, key="coherent")
        jobs.panel("coherent", evaluations.draw_coherent, settings={"edit": edits[0]})
        jobs.panel("sweep", evaluations.draw_sweep, settings=wanted)


def _sweep(wanted: dict[str, Any]) -> None:
    def work(session: Any, progress: Any) -> Any:
        return session.sweep(wanted["edit"], wanted["set"], split=wanted["split"], progress=progress)

    jobs.start("sweep", "Sweeping doses", work, wanted, heavy=True)


def _coherent(wanted: dict[str, Any]) -> None:
    def work(session: Any, progress: Any) -> Any:
        return session.coherent_dose(wanted["edit"], progress=progress)

    jobs.start("coherent", "Looking for the largest coherent dose", work, {"edit": wanted["edit"]}, heavy=True)


def _lanes(session: Any, edits: list[str]) -> tuple[Lane, ...]:
    """A lane an edit at the dose it is on at, else was saved at; a slider that starts there moves it."""
    on, lanes = dict(pair for lane in calls.usable_lanes(session) for pair in lane.doses), list[Lane]()
    for edit in edits:
        key = f"evaluate-dose-{edit}"
        st.session_state.setdefault(key, on[edit] if edit in on else calls.own_dose(session, edit))
        dose = dose_slider(f"Dose of {words.plain(calls.edit_name(session, edit))}", key=key, persist_state="session")
        lanes.append(Lane((Named(edit, dose),)))
    return tuple(lanes)


def _begin(settings: EvaluateSettings) -> None:
    jobs.start("evaluate", "Evaluating", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _draw(found: Any) -> None:
    evaluations.draw_verdict(found, key="evaluate", title="Base, edits and placebo")
    evaluations.draw_all(found, key="evaluate")


def _nothing() -> None:
    frame.empty(
        "Gains on held-out rows and damage on neutral text will stand here, each with n and a 95 % interval, each beside a placebo of "
        "equal size.",
        "Choose edits, then press *Evaluate*.",
        key="evaluate",
    )


VIEWS = {"Edits": _edits, "Methods at equal degradation": protocol.compare}

frame.page("Evaluate", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
