"""A fit on the Edit page: begin it, its moving picture, its verdict, save and compare, presets side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from pages._ui.edit import fitting, methods
from pages._ui.edit.fitting import FIT, PRESETS, FitOutcome
from pages._ui.evaluate import evaluations
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.backend import session
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import story_link
from pages._ui.kit.methods import method
from pages._ui.kit.state import part, state
from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Named
from workbench.progress import Progress
from workbench.settings import ChoiceSettings, FitSettings
from workbench.workspace.job import Snapshot

if TYPE_CHECKING:
    from workbench.edits.base import Edit
    from workbench.evaluate.evaluation import Evaluation
    from workbench.methods.registry import FitReport, Method
    from workbench.session import Session


@dataclass
class Done:
    """What was done with the last fit: the settings that the form has taken over, and why the edit could not be saved."""

    taken: FitSettings | None = None
    error: Exception | None = None


def begin(settings: FitSettings) -> None:
    """Start a fit in the slot `fit`."""
    title = settings.method.replace("_", " ")
    jobs.start(FIT, f"Fitting {title}", lambda opened, progress: fitting.fit(opened, settings, progress), settings, heavy=True)


def by_validation(session: Session, demonstrations: Demonstrations, settings: FitSettings, *, blocked: bool) -> None:
    """Let validation rows choose what the form would else have to be told: layers, shares, gates, the dose."""
    from workbench.methods.choice import DOSES

    tried = method(settings.method).tries(session.model.info)
    n = prod(map(len, tried.values()))
    rows = len(demonstrations.split("validation").having("prompt", "positive", "negative"))
    with st.expander("Choose by validation", key="choice"):
        what = words.listed([*(name.replace("_", " ") for name in tried), "dose"])
        st.caption(
            f"Chooses {what}: {n * len(DOSES)} settings, {words.count(n, 'fit')}, judged on {words.count(rows, 'validation row')}; "
            "test rows stay unseen."
        )
        limit = st.number_input(
            "Damage at most (KL, nats a token)", 0.0, 10.0, 0.02, step=0.005, format="%.3f", key="choice-limit", persist_state="session",
            help="How far neutral text may move. The best setting within it is taken.",
        )  # fmt: skip
        wanted = ChoiceSettings(
            settings.method, settings.source, settings.config, None, settings.seed, settings.dose, settings.data, settings.chat,
            settings.system, settings.rivals, settings.place, max_damage=float(limit),
        )  # fmt: skip
        frame.act("Choose and fit", _begin_choice, wanted, key="choice-fit", disabled=blocked or not rows)


def _begin_choice(wanted: ChoiceSettings) -> None:
    jobs.start(FIT, "Choosing by validation", lambda opened, progress: fitting.choose(opened, wanted, progress), wanted, heavy=True)


def take_choice() -> None:
    """Once validation has chosen, or a search was gone on with, the form shows the new knobs. Call it before the form is drawn."""
    outcome, done = jobs.result(FIT), part(Done)
    if outcome is None or outcome.chosen is None or done.taken == outcome.settings:
        return
    told = done.taken = outcome.settings
    scope.hand_knobs(told.method, outcome.chosen, "the last fit")
    st.session_state[methods.dose_key(told.method)] = told.dose


def live(shot: Snapshot) -> None:
    """The moving picture of a fit that runs: whatever numbers the method reports; once it is fitted, what can be done with it."""
    from workbench.figures.reports import moving_pictures

    at_hand: Any = shot.live.get("outcome")
    if at_hand is not None:
        _at_hand(at_hand)
        return
    for picture in moving_pictures(shot.history):
        figure_panel(picture.figure, picture.rows, f"{shot.title}, {len(shot.history)} reports", key=picture.name)


def _at_hand(outcome: FitOutcome) -> None:
    """An edit that can be used while it is measured."""
    state().edit = outcome.edit
    st.caption(f"The edit is fitted. {words.plain(outcome.why_not)}")
    _verbs(session(), outcome)
    notices(outcome.fitted.report)


def draw(outcome: FitOutcome) -> None:
    """The verdict, what to do next, then the method's own pictures."""
    state().edit = outcome.edit
    opened = session()
    seed = outcome.fitted.edit.header.seed
    if outcome.evaluation is None:
        st.caption(f"The edit is fitted. It was not measured: {words.plain(outcome.why_not)}")
    else:
        evaluations.draw_verdict(outcome.evaluation, key="fit", title="Held-out rows: base, edit, placebo", seed=seed)
        _control(outcome, outcome.evaluation)
    _verbs(opened, outcome)
    notices(outcome.fitted.report)
    pictures(outcome.fitted.report, caption(outcome.fitted.edit))


def _control(outcome: FitOutcome, evaluation: Evaluation) -> None:
    """Offer the same method on shuffled sides, with its cost, where it does not stand beside the placebo yet."""
    if any(lane.control == "shuffled" for lane in evaluation.lanes):
        return
    about = words.seconds(outcome.fit_s + fitting.VERDICT_S)
    frame.act(
        f"Fit on shuffled sides too (up to {about})", _begin_control, outcome, key="fit-shuffled",
        help="The same method on the same texts with their sides mixed up: a gain that it has too is none of what you asked for.",
    )  # fmt: skip


def _begin_control(outcome: FitOutcome) -> None:
    def work(opened: Session, progress: Progress) -> FitOutcome:
        return fitting.with_shuffled(opened, outcome, progress)

    jobs.start(FIT, "Fitting on shuffled sides", work, outcome.settings, heavy=True)


def caption(edit: Edit) -> str:
    """Where the pictures of an edit's fit are from."""
    head = edit.header
    return words.provenance(model=head.model.name, edit=edit.id[:6], seed=head.seed, data=f"data {head.data[:6]}")


def notices(report: FitReport) -> None:
    """Findings in words; warnings first."""
    for notice in sorted(report.notices, key=lambda item: item.level != "warning"):
        sign = ":material/warning:" if notice.level == "warning" else ":material/info:"
        st.caption(f"{sign} {words.plain(notice.text)} {words.plain(notice.hint)}")
        if notice.why:
            with st.expander("Why?"):
                st.caption(words.plain(notice.why))


# How the picture of a report's curve is named: by its place, then by what it is of.
_CURVE = re.compile(r"^curve-\d+-")


def pictures(report: FitReport, source: str, *, prefix: str = "fit", drawn_already: tuple[str, ...] = ()) -> None:
    """The pictures of a fit, a tab each; below, its tables and numbers.

    Args:
        drawn_already: how the names of pictures begin that the page shows elsewhere: no figure stands there twice.
    """
    from workbench.figures.reports import report_pictures as drawn
    from workbench.figures.theme import title_of

    shown = [picture for picture in drawn(report) if not _CURVE.sub("", picture.name).startswith(drawn_already)]
    names = [title_of(picture.figure) or picture.name for picture in shown]
    tabs = st.tabs([*names, *report.tables, "numbers"]) if shown or report.tables else [st.container()]
    for picture, tab in zip(shown, tabs):
        with tab:
            figure_panel(picture.figure, picture.rows, source, key=f"{prefix}-{picture.name}", says=picture.says, look_for=picture.look_for)
    for (name, rows), tab in zip(report.tables.items(), tabs[len(shown) :]):
        with tab:
            st.dataframe([_flat(row) for row in rows], hide_index=True, width="stretch", key=f"{prefix}-table-{name}")
    with tabs[-1]:
        st.dataframe(
            [{"name": key.replace("_", " "), "value": words.number(value)} for key, value in report.scalars.items()], hide_index=True
        )
        st.caption("What the fit says of itself, on rows that it learned from or chose by: no score of rows that it has not seen.")


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    def first(item: object) -> object:
        return cast("Sequence[object]", item)[0] if isinstance(item, (list, tuple)) else item

    def text(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            return value
        return "  ".join(words.token(str(first(item))) for item in cast("Sequence[object]", value))

    return {key: text(value) for key, value in row.items()}


def _verbs(opened: Session | None, outcome: FitOutcome) -> None:
    bench = state().bench
    dose = bench.doses[outcome.edit] = outcome.settings.dose
    bench.fit_s[outcome.edit] = outcome.fit_s
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare", type="primary", key="fit-compare", help="See base and edit answer side by side."):
            state().turn_on(outcome.edit, dose)
            st.switch_page("pages/compare.py")
        if opened is not None:
            save_popover(opened, outcome.edit, dose, outcome.evaluation.plain if outcome.evaluation else "")
        if st.button("Look at its spectra", key="fit-spectra"):
            st.switch_page("pages/spectra.py")
        story_link(outcome.edit, key="fit-story")
        if method(outcome.settings.method).proceed is not None:
            _search_on(outcome)


def _search_on(outcome: FitOutcome) -> None:
    """Go on with a search from its recorded trials."""
    done = len(outcome.fitted.report.tables.get("trials", ()))
    with st.popover("Search on"):
        st.caption(f"{words.count(done, 'call')} were made. The search goes on from its trials, with the same rows and seed.")
        budget = st.number_input("Calls in all", done + 1, 100_000, 2 * done, key=f"proceed-budget-{outcome.edit}")
        wanted = replace(outcome.settings, config={**outcome.settings.config, "budget": int(budget)})
        frame.act("Go on", _begin_proceed, wanted, outcome.edit, type="primary", key="proceed")


def _begin_proceed(wanted: FitSettings, edit: str) -> None:
    jobs.start(FIT, "Searching on", lambda opened, progress: fitting.proceed(opened, wanted, edit, progress), wanted, heavy=True)


def save_popover(opened: Session, edit: str, dose: float, verdict: str, *, key: str = "fit") -> None:
    """Keep an edit in the workspace under a name, at the dose of its verdict."""
    saved = {(item.fit, item.dose): item.name for item in opened.edits()}
    if (edit, dose) in saved:
        st.caption(f":material/check: Saved as {words.plain(saved[edit, dose])} at dose {dose:g}")
        return
    with st.popover("Save"):
        name = st.text_input("Name", f"{state().method or 'edit'} {edit[:4]}".replace("_", " "), key=f"{key}-name-{edit}")
        lane = Named(edit, dose)
        frame.act("Save edit", _save, opened, lane, name, verdict, type="primary", key=f"{key}-save-{edit}", disabled=not name.strip())
        error = part(Done).error
        if error is not None:
            st.caption(words.plain(f"{error} {getattr(error, 'hint', '')}"))


def _save(opened: Session, edit: Named, name: str, verdict: str) -> None:
    part(Done).error = None
    try:
        opened.save_edit(edit, name.strip(), verdict=verdict)
    except Exception as error:  # stays beside the button; the edit is still at hand
        part(Done).error = error


def presets_side_by_side(known: Method, settings: FitSettings, *, blocked: bool) -> None:
    """What each preset is, in words; fit the first two with everything else equal, and put their numbers side by side."""
    names = list(known.presets)[:2]
    if not names:
        return
    with st.expander("Presets side by side", key="presets"):
        _in_words(known)
        if len(names) < 2 or blocked:
            return
        st.caption(f"Fits *{names[0]}* and *{names[1]}* with the same rows and seed.")
        wanted = tuple(replace(settings, config={}, preset=name) for name in names)
        frame.act("Fit both", _begin_both, wanted, key="fit-both")
        jobs.panel(PRESETS, _both, settings=wanted)


def _in_words(known: Method) -> None:
    """A sentence a preset, and which knobs it sets otherwise than the defaults."""
    from workbench.methods.shared.presets import presets_of

    for preset in presets_of(known):
        st.markdown(f"**{words.plain(preset.name)}**: {words.plain(preset.says)}")
        sets = " · ".join(f"{label} {_said(value)}" for label, value in preset.sets.items())
        st.caption(words.plain(sets or "Every knob as by default."))


def _said(value: object) -> str:
    return ", ".join(map(str, cast("Sequence[object]", value))) if isinstance(value, (list, tuple)) else str(value)


def _begin_both(wanted: tuple[FitSettings, ...]) -> None:
    def work(opened: Session, progress: Progress) -> Sequence[tuple[str, FitOutcome]]:
        return fitting.fit_presets(opened, wanted, progress)

    jobs.start(PRESETS, "Fitting both presets", work, wanted, heavy=True)


def _both(found: Sequence[tuple[str, FitOutcome]]) -> None:
    table_panel(
        [_preset_row(name, outcome) for name, outcome in found],
        words.provenance(model=state().model, seed=found[0][1].fitted.edit.header.seed),
        key="presets",
    )
    for name, outcome in found:
        for notice in outcome.fitted.report.notices:
            if notice.level == "warning":
                st.caption(f":material/warning: {words.plain(name)}: {words.plain(notice.text)} {words.plain(notice.hint)}")


def _preset_row(name: str, outcome: FitOutcome) -> dict[str, Any]:
    """A preset as a table row: the first metric, then the report's numbers."""
    row: dict[str, Any] = {"preset": name}
    if outcome.evaluation is not None and outcome.evaluation.benefit.metrics:
        metric = outcome.evaluation.benefit.metrics[0]
        row |= {"base": str(metric.values[0]), metric.title: str(metric.values[1])}
    return row | {key.replace("_", " "): round(value, 4) for key, value in outcome.fitted.report.scalars.items()}
