"""Evaluate: edits that are made, beside the untouched model and placebos; and how much of one edit is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.evaluate import evaluations
from pages._ui.evaluate.choosing import edits_chosen
from pages._ui.evaluate.prompts import beside_prompts
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.doses import dose_slider
from pages._ui.kit.lanes import Lanes, edit_name, known_edits, own_dose, story_link, usable_lanes
from pages._ui.kit.state import state
from workbench.data.demonstrations import Split
from workbench.edits.lane import Lane, Named
from workbench.progress import Progress
from workbench.settings import EvaluateSettings

if TYPE_CHECKING:
    from workbench.evaluate.dose import CoherentDose, DoseSweep
    from workbench.evaluate.evaluation import Evaluation
    from workbench.session import Session

ROWS: tuple[Split, ...] = ("test", "validation", "fit")


@dataclass(frozen=True)
class Swept:
    """An edit at several doses, on the rows of a split, beside other lanes."""

    edit: str
    set: str
    split: Split | None
    beside: Lanes = ()


EVALUATE: jobs.Slot[EvaluateSettings, Evaluation] = jobs.Slot("evaluate")
SWEEP: jobs.Slot[Swept, DoseSweep] = jobs.Slot("sweep")
# Its settings are the edit.
COHERENT: jobs.Slot[str, CoherentDose] = jobs.Slot("coherent")


def evaluate(session: Session) -> None:
    """Edits and set beside the table of gains and damages, with the placebo."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        chosen = sets.picker(session, key="evaluate-set")
        if not known_edits(session) or chosen is None:
            frame.empty("There is no edit to measure yet.", "Fit one first.", key="no-edit")
            st.page_link("pages/edit.py", label="Fit an edit", icon=":material/tune:")
            with picture:  # what is on record stays to be read, though its edit was not saved
                if jobs.result(EVALUATE) is not None:
                    jobs.panel(EVALUATE, _draw)
            return
        edits = edits_chosen(session, "Edits", key="evaluate-edits", most=5)
        st.session_state.setdefault("evaluate-split", ROWS[0])
        split: Split | None = st.segmented_control("Rows", ROWS, key="evaluate-split", required=True)
        prompts = beside_prompts(session, key="evaluate")
        lanes = (*_lanes(session, edits), *prompts)
        placebos = st.number_input(
            "Placebos", 0, 20, 3, key="evaluate-placebos", persist_state="session", help="Random edits of equal size, averaged row by row."
        )
        again = st.toggle(
            "Fit again on shuffled sides", False, key="evaluate-shuffled", persist_state="session",
            help="The first edit's method learns the same texts with their sides mixed up; it takes as long as the fit took.",
        )  # fmt: skip
        if again and (cost := state().bench.fit_s.get(edits[0] if edits else "")):
            st.caption(f"The fit took {words.seconds(cost)}; so does this one, on top of the measuring.")
        settings = EvaluateSettings(lanes, chosen, split, n_placebos=int(placebos), shuffled=again)
        frame.act("Evaluate", _begin, settings, type="primary", key="evaluate", width="stretch", disabled=not edits)
        if split == "fit":
            st.caption(":orange[These rows were fitted on: the scores flatter.]")
    with picture:
        jobs.panel(EVALUATE, _draw, settings=settings, nothing=_nothing)
        if edits:
            _doses(Swept(edits[0], chosen, split, prompts))


def _lanes(session: Session, edits: list[str]) -> Lanes:
    """A lane an edit at the dose it is on at, else was saved at; a slider that starts there moves it."""
    on, lanes = dict(pair for lane in usable_lanes(session) for pair in lane.doses), list[Lane]()
    for edit in edits:
        key = f"evaluate-dose-{edit}"
        st.session_state.setdefault(key, on[edit] if edit in on else own_dose(session, edit))
        dose = dose_slider(f"Dose of {words.plain(edit_name(session, edit))}", key=key, persist_state="session")
        story_link(edit, key=f"evaluate-story-{edit}")
        lanes.append(Lane((Named(edit, dose),)))
    return tuple(lanes)


def _begin(settings: EvaluateSettings) -> None:
    jobs.start(EVALUATE, "Evaluating", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _draw(found: Evaluation) -> None:
    evaluations.draw_verdict(found, key="evaluate", title="Base, edits and placebo")
    evaluations.draw_all(found, key="evaluate")


def _nothing() -> None:
    frame.empty(
        "Gains on held-out rows and damage on neutral text will stand here, each with n and a 95 % interval, each beside a placebo of "
        "equal size.",
        "Choose edits, then press *Evaluate*.",
        key="evaluate",
    )


def _doses(wanted: Swept) -> None:
    """How much of the first edit: a sweep over doses, and the largest that is still coherent."""
    with st.expander("How much of it? Effect and damage over the dose"):
        with st.container(horizontal=True):
            frame.act("Sweep doses", _sweep, wanted, key="sweep")
            frame.act("Find max coherent dose", _coherent, wanted.edit, key="coherent")
        jobs.panel(COHERENT, evaluations.draw_coherent, settings=wanted.edit)
        jobs.panel(SWEEP, evaluations.draw_sweep, settings=wanted)


def _sweep(wanted: Swept) -> None:
    def work(session: Session, progress: Progress) -> DoseSweep:
        return session.sweep(wanted.edit, wanted.set, split=wanted.split, beside=list(wanted.beside), progress=progress)

    jobs.start(SWEEP, "Sweeping doses", work, wanted, heavy=True)


def _coherent(edit: str) -> None:
    def work(session: Session, progress: Progress) -> CoherentDose:
        return session.coherent_dose(edit, progress=progress)

    jobs.start(COHERENT, "Looking for the largest coherent dose", work, edit, heavy=True)
