"""Design search on a page: gain over damage of many designs, live, beside random draws; any point can be opened, kept or compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate.choosing import set_chosen
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel, selected, table_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.methods import method, obstacles
from pages._ui.kit.state import state
from workbench.data.demonstrations import Demonstrations
from workbench.progress import Progress
from workbench.settings import DesignSettings, FitSettings

if TYPE_CHECKING:
    from workbench.evaluate.design.record import DesignSearch
    from workbench.methods.registry import Fitted
    from workbench.session import Session
    from workbench.workspace.job import Snapshot

SEARCH: jobs.Slot[DesignSettings, DesignSearch] = jobs.Slot("design")
OPENED: jobs.Slot[FitSettings, Fitted] = jobs.Slot("design-open")
_FIGURE, _TRIAL, _CLICKED = "design-figure", "design-trial", "design-clicked"


def search(session: Session) -> None:
    """Set, methods and number of trials beside the picture of what each design gains and breaks."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        if (picked := set_chosen(session, key="design-set")) is None:
            return
        settings = _settings(session, *picked)
        frame.act("Search designs", _begin, settings, type="primary", key="design-run", disabled=not settings.methods, width="stretch")
        st.caption(
            "It chooses on validation rows; test rows are read once, for the winners. A search of more trials goes on from this one."
        )
    with picture:
        jobs.panel(SEARCH, lambda found: _draw(session, found), settings=settings, nothing=_nothing, live=_live)


def _settings(session: Session, chosen: str, rows: Demonstrations) -> DesignSettings:
    from workbench.methods.shared.layers import SMALL

    free = [name for name, why in obstacles(session, rows).items() if not why]
    key = f"design-methods-{chosen}-{session.model.info.name}"
    fast = [name for name in free if not method(name).cost]
    st.session_state[key] = [name for name in st.session_state.get(key, fast) if name in free]
    names = st.multiselect(
        "Methods", free, format_func=lambda name: method(name).title, key=key, persist_state="session",
        help="Those whose fits take a second or so stand here at first; others join if you add them.",
    )  # fmt: skip
    for name in names:
        if method(name).cost:
            st.caption(f":orange[{words.plain(method(name).title)}: {words.plain(method(name).cost)}.]")
    offered = sorted(
        {20, 40, 60, 100, 150, 200, st.session_state.get("design-trials", 60)}
    )  # a recorded search may have had another number
    is_large = session.model.info.n_parameters >= SMALL
    trials = st.select_slider("Trials", offered, 20 if is_large else 60, key="design-trials", persist_state="session")
    if is_large:
        n = len(rows.split("validation"))
        st.caption(f"A trial fits an edit and scores {words.count(n, 'validation row')}: on this model as long as a fit on *Edit* takes.")
    control = st.toggle(
        "Random draws beside it", True, key="design-control", persist_state="session",
        help="As many designs drawn at random, in grey: what the search would find without looking. It takes as long again.",
    )  # fmt: skip
    return DesignSettings(chosen, tuple(names), int(trials), control)


def _begin(settings: DesignSettings) -> None:
    st.session_state.pop(_TRIAL, None)
    jobs.drop(OPENED)
    jobs.start(SEARCH, "Searching designs", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _live(shot: Snapshot) -> None:
    from workbench.evaluate.design.record import DesignSearch
    from workbench.figures.design import design_front
    from workbench.figures.theme import themed

    found = shot.live.get("found")
    if isinstance(found, DesignSearch) and found.trials:
        figure = themed(design_front(found, _titles(found)), dark=frame.is_dark())
        st.plotly_chart(figure, key="design-live", theme=None, config={"displayModeBar": False}, alt=words.plain(found.sentence))


def _titles(found: DesignSearch) -> dict[str, str]:
    return {name: method(name).title for name in found.methods}


def _draw(session: Session, found: DesignSearch) -> None:
    from workbench.figures.design import design_front

    meaning(words.markdown(found.sentence), "design")
    picked = _picked(found)
    where = words.provenance(model=found.model, data=found.data, seed=found.seed, split="validation", n=found.n_prompts)
    figure_panel(
        design_front(found, _titles(found), picked), found.rows(), f"{where} · damage on {found.n_tokens} tokens of {found.ground}",
        key=_FIGURE, selects=True,
        says="Each point is a method with its knobs at a dose; the line joins those that no other one beats in gain and damage.",
        look_for="Points of the search above the grey ones at the same damage, and a front that rises early: much gain for little damage.",
    )  # fmt: skip
    if found.winners:
        st.markdown("**Chosen on validation, measured once on test rows**")
        held = words.provenance(model=found.model, data=found.data, seed=found.seed, split="test", n=found.winners[0].gain.n)
        table_panel(found.winner_rows(), held, key="design-winners")
    if picked is not None:
        _one(session, found, picked)


def _picked(found: DesignSearch) -> int | None:
    """The trial that is looked at: the one clicked last, or chosen from the list."""
    places = [*found.front, *(at for at, one in enumerate(found.trials) if not one.why and at not in found.front)]
    if not places:
        return None
    clicked = [at for at in selected(_FIGURE) if at in places]
    if clicked and st.session_state.get(_CLICKED) != clicked[0]:
        st.session_state[_TRIAL] = st.session_state[_CLICKED] = clicked[0]
    if st.session_state.get(_TRIAL) not in places:
        st.session_state[_TRIAL] = found.winners[-1].trial if found.winners else places[0]
    labels = {at: f"{at + 1}: {found.trials[at].design.label}" for at in places}
    return st.selectbox("Trial", places, format_func=labels.__getitem__, key=_TRIAL, help="The front first; or click a point.")


def _one(session: Session, found: DesignSearch, at: int) -> None:
    """A trial in numbers, and what can be done with it."""
    trial, asked = found.trials[at], jobs.settings_of(SEARCH)
    gain = f"{trial.gain.words} nats a token, n={trial.gain.n}"
    st.text(f"Gain {gain}; the most moved twentieth of tokens moves by {trial.tail_nats:.2g} nats, all by {trial.mean_nats:.2g}.")
    if asked is None:
        return
    design = trial.design
    settings = FitSettings(
        design.method, asked.source, design.values, seed=asked.seed, dose=design.dose, chat=asked.chat, system=asked.system
    )
    fitted = jobs.result(OPENED)  # collects it, so that its settings are known
    if fitted is None or jobs.settings_of(OPENED) != settings:
        frame.act("Open", _open, settings, key="design-open", help="Fit it again, with the same rows and seed, and have it at hand.")
        jobs.panel(OPENED, lambda _: None)
        return
    edit, name = fitted.edit.id, design.label
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare", type="primary", key="design-compare", help="See base and edit answer side by side."):
            state().turn_on(edit, design.dose)
            st.switch_page("pages/compare.py")
        frame.act("Pin", _pin, session, edit, design.dose, name, key="design-pin", help="Save it, on top of the library.")
        frame.act("Evaluate", _evaluate, edit, design.dose, key="design-evaluate", help="All scores, beside placebos.")


def _open(settings: FitSettings) -> None:
    def work(session: Session, progress: Progress) -> Fitted:
        return session.run(settings, progress=progress)

    jobs.start(OPENED, "Fitting it again", work, settings, heavy=True)


def _pin(session: Session, edit: str, dose: float, name: str) -> None:
    info = session.save_edit(f"{edit}:{dose!r}", name)
    session.workspace.pin("edit", info.id)
    st.toast("Saved and pinned in the library.")


def _evaluate(edit: str, dose: float) -> None:
    state().turn_on(edit, dose)
    st.session_state["evaluate-edits"] = [edit]
    st.session_state["evaluate-ask"] = "Edits"


def _nothing() -> None:
    frame.empty(
        "What each design gains, and what it breaks, will stand here point by point, from the first trial on, beside random draws.",
        "Choose methods, then press *Search designs*. Sixty trials of quick methods take a few minutes.",
        key="design",
    )
