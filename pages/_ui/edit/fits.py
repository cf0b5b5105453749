"""A fit on the Edit page: begin it, its moving picture, its verdict, save and compare, presets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import streamlit as st

from pages._ui.edit import methods
from pages._ui.evaluate import evaluations
from pages._ui.kit import calls, frame, jobs, scope, words
from pages._ui.kit.backend import session
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.state import state
from workbench.edits.lane import Named
from workbench.settings import ChoiceSettings, FitSettings


def begin(settings: FitSettings) -> None:
    """Start a fit in the slot `fit`."""
    title = settings.method.replace("_", " ")
    jobs.start("fit", f"Fitting {title}", lambda opened, progress: calls.fit(opened, settings, progress), settings, heavy=True)


def by_validation(session: Any, demonstrations: Any, settings: FitSettings, *, blocked: bool) -> None:
    """Let validation rows choose what the form would else have to be told: layers, shares, gates, the dose."""
    from workbench.methods.choice import DOSES

    tried = calls.method(settings.method).tries(session.model.info)
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
            settings.method, settings.source, settings.config, None, settings.seed, settings.dose, settings.data, float(limit)
        )
        frame.act("Choose and fit", _begin_choice, wanted, key="choice-fit", disabled=blocked or not rows)


def _begin_choice(wanted: ChoiceSettings) -> None:
    jobs.start("fit", "Choosing by validation", lambda opened, progress: calls.choose(opened, wanted, progress), wanted, heavy=True)


def take_choice() -> None:
    """Once validation has chosen, or a search was gone on with, the form shows the new knobs. Call it before the form is drawn."""
    outcome = jobs.result("fit")
    if outcome is None or outcome.chosen is None or state().draft.get("chosen") == outcome.settings:
        return
    state().draft["chosen"] = outcome.settings
    scope.hand_knobs(outcome.method, outcome.chosen, "the last fit")
    st.session_state[methods.dose_key(outcome.method)] = outcome.dose


def live(shot: Any) -> None:
    """The moving picture of a fit that runs: whatever numbers the method reports."""
    from workbench.figures.reports import moving_pictures

    for picture in moving_pictures(shot.history):
        figure_panel(picture.figure, picture.rows, f"{shot.title}, {len(shot.history)} reports", key=picture.name)


def draw(outcome: Any) -> None:
    """The verdict, what to do next, then the method's own pictures."""
    state().edit = outcome.edit
    opened = session()
    seed = outcome.fitted.edit.header.seed
    if outcome.evaluation is None:
        st.caption(f"The edit is fitted. It was not measured: {words.plain(outcome.why_not)}")
    else:
        evaluations.draw_verdict(outcome.evaluation, key="fit", title="Held-out rows: base, edit, placebo", seed=seed)
    _verbs(opened, outcome)
    notices(outcome.fitted.report)
    pictures(outcome.fitted.report, caption(outcome.fitted.edit))


def caption(edit: Any) -> str:
    """Where the pictures of an edit's fit are from."""
    head = edit.header
    return words.provenance(model=head.model.name, edit=edit.id[:6], seed=head.seed, data=f"data {head.data[:6]}")


def notices(report: Any) -> None:
    """Findings in words; warnings first."""
    for notice in sorted(report.notices, key=lambda item: item.level != "warning"):
        sign = ":material/warning:" if notice.level == "warning" else ":material/info:"
        st.caption(f"{sign} {words.plain(notice.text)} {words.plain(notice.hint)}")
        if notice.why:
            with st.expander("Why?"):
                st.caption(words.plain(notice.why))


def pictures(report: Any, source: str, *, prefix: str = "fit") -> None:
    """The pictures of a fit, a tab each; below, its tables and numbers."""
    from workbench.figures.reports import report_pictures as drawn

    shown = drawn(report)
    names = [picture.figure.layout.title.text or picture.name for picture in shown]
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


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    def text(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return "  ".join(words.token(str(item[0] if isinstance(item, (list, tuple)) else item)) for item in value)
        return value

    return {key: text(value) for key, value in row.items()}


def _verbs(opened: Any, outcome: Any) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare", type="primary", key="fit-compare", help="See base and edit answer side by side."):
            state().turn_on(outcome.edit, outcome.dose)
            st.switch_page("pages/compare.py")
        if opened is not None:
            save_popover(opened, outcome.edit, outcome.dose, outcome.evaluation.verdict.plain if outcome.evaluation else "")
        if st.button("Look at its spectra", key="fit-spectra"):
            st.switch_page("pages/spectra.py")
        if calls.method(outcome.method).proceed is not None:
            _search_on(outcome)


def _search_on(outcome: Any) -> None:
    """Go on with a search from its recorded trials."""
    done = len(outcome.fitted.report.tables.get("trials", ()))
    with st.popover("Search on"):
        st.caption(f"{words.count(done, 'call')} were made. The search goes on from its trials, with the same rows and seed.")
        budget = st.number_input("Calls in all", done + 1, 100_000, 2 * done, key=f"proceed-budget-{outcome.edit}")
        wanted = replace(outcome.settings, config={**outcome.settings.config, "budget": int(budget)})
        frame.act("Go on", _begin_proceed, wanted, outcome.edit, type="primary", key="proceed")


def _begin_proceed(wanted: FitSettings, edit: str) -> None:
    jobs.start("fit", "Searching on", lambda opened, progress: calls.proceed(opened, wanted, edit, progress), wanted, heavy=True)


def save_popover(opened: Any, edit: str, dose: float, verdict: str, *, key: str = "fit") -> None:
    """Keep an edit in the workspace under a name, at the dose of its verdict."""
    saved = {(item.fit, item.dose): item.name for item in opened.edits()}
    if (edit, dose) in saved:
        st.caption(f":material/check: Saved as {words.plain(saved[edit, dose])} at dose {dose:g}")
        return
    with st.popover("Save"):
        name = st.text_input("Name", f"{state().method or 'edit'} {edit[:4]}".replace("_", " "), key=f"{key}-name-{edit}")
        lane = Named(edit, dose)
        frame.act("Save edit", _save, opened, lane, name, verdict, type="primary", key=f"{key}-save-{edit}", disabled=not name.strip())
        error = state().draft.get("save-error")
        if error is not None:
            st.caption(words.plain(f"{error} {getattr(error, 'hint', '')}"))


def _save(opened: Any, edit: Named, name: str, verdict: str) -> None:
    state().draft.pop("save-error", None)
    try:
        opened.save_edit(edit, name.strip(), verdict=verdict)
    except Exception as error:  # stays beside the button; the edit is still at hand
        state().draft["save-error"] = error


def presets_side_by_side(method: Any, settings: FitSettings, *, blocked: bool) -> None:
    """Fit the first two presets with everything else equal, and put their numbers side by side."""
    names = list(method.presets)[:2]
    if len(names) < 2 or blocked:
        return
    with st.expander(f"What would *{names[1]}* do?", key="presets"):
        st.caption(f"Fits *{names[0]}* and *{names[1]}* with the same rows and seed.")
        wanted = tuple(replace(settings, config={}, preset=name) for name in names)
        frame.act("Fit both", _begin_both, wanted, key="fit-both")
        jobs.panel("presets", _both, settings=wanted)


def _begin_both(wanted: Sequence[FitSettings]) -> None:
    jobs.start("presets", "Fitting both presets", lambda opened, progress: calls.fit_presets(opened, wanted, progress), wanted, heavy=True)


def _both(found: Any) -> None:
    from pages._ui.kit.figures import table_panel

    table_panel(calls.preset_rows(found), words.provenance(model=state().model, seed=found[0][1].fitted.edit.header.seed), key="presets")
    for name, outcome in found:
        for notice in outcome.fitted.report.notices:
            if notice.level == "warning":
                st.caption(f":material/warning: {words.plain(name)}: {words.plain(notice.text)} {words.plain(notice.hint)}")
