"""The calls of pages into the session that need more than one line, and how a page words their settings.

Heavy modules are imported inside the functions: a page must not wait for torch before it has drawn itself.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pages._ui.kit.backend import backend
from pages._ui.kit.state import state
from workbench.edits.lane import Lane, Named
from workbench.errors import RetouchError
from workbench.progress import Cancelled, Progress
from workbench.settings import ChoiceSettings, CompareSettings, EvaluateSettings, FitSettings


@dataclass(frozen=True)
class FitOutcome:
    """A fit and what it did to held-out rows; `evaluation` is None where the set has nothing to score.

    `settings` are those of the fit with every knob's value, as `fit_settings` words them.
    """

    edit: str
    method: str
    fitted: Any
    evaluation: Any | None
    dose: float = 1.0
    why_not: str = ""
    settings: FitSettings | None = None
    chosen: Mapping[str, Any] | None = None
    """Knobs that came of the fit and not of the form: chosen by validation, or a larger budget."""


def known_edits(session: Any) -> dict[str, str]:
    """Names by id of every edit that fits this model: fits of this process first, the newest first, then the saved ones."""
    mine = session.model.fingerprint
    saved = {item.id: item.name for item in session.edits() if item.model.same_model(mine)}
    fresh = {
        item.edit.id: f"{item.edit.header.method.replace('_', ' ')} {item.edit.id[:4]} (not saved)"
        for item in session.shelf.fitted()
        if item.edit.id not in saved and item.edit.header.model.same_model(mine)
    }
    return {**fresh, **saved}


def own_dose(session: Any, edit: str) -> float:
    """The dose that an edit was saved at; 1 for a fit that was not."""
    return next((item.dose for item in session.edits() if item.id == edit), 1.0)


def edit_name(session: Any, edit: str) -> str:
    """What to call an edit; its id where it is not known any more."""
    try:
        return session.edit_name(edit)
    except RetouchError:
        return edit[:8]


def lane_name(session: Any, lane: Lane) -> str:
    """What to call a lane: the names of its edits."""
    return " + ".join(edit_name(session, edit) for edit in lane.keys)


def usable_lanes(session: Any) -> tuple[Lane, ...]:
    """The lanes that are on and whose edits are there and fit this model; the others are turned off. Each edit has a dose."""
    known, now = known_edits(session), state()
    usable = tuple(lane for lane in now.lanes if set(lane.keys) <= set(known))
    now.lanes = tuple(dosed(session, lane) for lane in usable)
    return now.lanes


Lanes = tuple[Lane, ...]


def dosed(session: Any, lane: Lane) -> Lane:
    """The lane with the dose of its own for each edit that a link names without one."""
    return Lane(tuple(Named(key, own_dose(session, key) if dose is None else dose) for key, dose in lane.doses))


def lane_key() -> Lanes:
    """The lanes that are on, as part of a result's settings."""
    return state().lanes


def stacks(lanes: Sequence[Lane]) -> list[Lane]:
    """The untouched model, then the lanes, as the session takes them."""
    return [Lane(), *lanes]


def method(name: str) -> Any:
    """A registered method."""
    from workbench.methods import get

    return get(name)


def obstacles(session: Any, demonstrations: Any) -> dict[str, Any]:
    """Why each method cannot run here, by name, the simple ones first; found once for each model and set (some look closely)."""
    one, key = backend(), (session.model.fingerprint.weights, demonstrations.fingerprint)
    if key not in one.obstacles:
        found = {item.method.name: item.obstacles for item in session.methods(demonstrations)}
        with one.lock:
            one.obstacles[key] = found
            for old in list(one.obstacles)[: max(0, len(one.obstacles) - 64)]:
                del one.obstacles[old]
    return one.obstacles[key]


def knob_problem(method: Any, values: Mapping[str, Any]) -> RetouchError | None:
    """What is wrong with the form's values, if anything."""
    try:
        method.configure(values)
    except RetouchError as error:
        return error
    return None


def fit(session: Any, settings: FitSettings, progress: Progress) -> FitOutcome:
    """Fit an edit, then measure it on the rows marked test, beside a placebo of equal size."""
    with _best_so_far(settings):
        fitted = session.run(settings, progress=progress.part(0.0, 0.85))
    return _measured(session, settings, fitted, progress)


def proceed(session: Any, settings: FitSettings, edit: str, progress: Progress) -> FitOutcome:
    """Go on with the search that found an edit until the budget of the settings is used up; then measure as after a fit."""
    budget: Any = settings.config["budget"]
    with _best_so_far(settings, {"budget": budget}):
        fitted = session.proceed(edit, settings.source, budget, progress=progress.part(0.0, 0.85))
    return replace(_measured(session, settings, fitted, progress), chosen={"budget": budget})


@contextmanager
def _best_so_far(settings: FitSettings, chosen: Mapping[str, Any] | None = None) -> Generator[None]:
    """A cancelled fit that had something hands it on as an outcome that was not measured."""
    try:
        yield
    except Cancelled as cancelled:
        if cancelled.best is None:
            raise
        raise Cancelled(_unmeasured(cancelled.best, settings, chosen)) from None


def _unmeasured(fitted: Any, settings: FitSettings, chosen: Mapping[str, Any] | None) -> FitOutcome:
    why = "The fit was cancelled; this is the best it had. The page Evaluate measures it."
    return FitOutcome(fitted.edit.id, settings.method, fitted, None, settings.dose, why, settings, chosen)


def choose(session: Any, settings: ChoiceSettings, progress: Progress) -> FitOutcome:
    """Let validation choose the knobs that are worth trying and the dose, within a limit of damage; then measure as after a fit."""
    from workbench.knobs import as_json
    from workbench.methods.choice import Choice

    name, tried = settings.method, method(settings.method).tries(session.model.info)
    fixed = {knob: value for knob, value in settings.config.items() if knob not in tried}

    def told(found: Any) -> FitSettings:
        config = settings.config if found is None else as_json(method(name).configure({**fixed, **found.best.values}))
        at = settings.dose if found is None else found.best.dose
        return FitSettings(name, settings.source, config, seed=settings.seed, dose=at, data=settings.data)

    try:
        found = session.choose(
            name, settings.source, fixed, max_damage=settings.max_damage, seed=settings.seed, progress=progress.part(0.0, 0.85)
        )
    except Cancelled as cancelled:
        best: Any = cancelled.best
        if best is None:
            raise
        if not isinstance(best, Choice):  # the first fit was cancelled, and had something
            raise Cancelled(_unmeasured(best, told(None), None)) from None
        raise Cancelled(_unmeasured(best.fitted, told(best), dict(best.best.values))) from None
    return replace(_measured(session, told(found), found.fitted, progress), chosen=dict(found.best.values))


def _measured(session: Any, settings: FitSettings, fitted: Any, progress: Progress) -> FitOutcome:
    edit, dose = fitted.edit.id, settings.dose
    progress(0.86, "Measuring it on held-out rows")
    try:
        # The quick look: the page Evaluate measures more, repetition too.
        quick = EvaluateSettings((Lane((Named(edit, dose),)),), settings.source, n_placebos=2, n_generations=0)
        evaluation = session.run(quick, progress=progress.part(0.86, 1.0))
    except RetouchError as error:
        return FitOutcome(edit, settings.method, fitted, None, dose, str(error), settings)
    except Cancelled:  # the fit itself was finished
        why = "The measuring was cancelled. The page Evaluate measures it."
        raise Cancelled(FitOutcome(edit, settings.method, fitted, None, dose, why, settings)) from None
    return FitOutcome(edit, settings.method, fitted, evaluation, dose, settings=settings)


def fit_settings(chosen: str, demonstrations: Any, name: str, values: Mapping[str, Any], seed: int, dose: float = 1.0) -> FitSettings:
    """What a fit comes from, with every knob's value, and the dose it is measured at; equal settings give an equal edit."""
    from workbench.knobs import as_json

    try:
        told = as_json(method(name).configure(values))
    except RetouchError:  # the form shows it; the values as typed still tell this form from another
        told = dict(values)
    return FitSettings(name, chosen, told, seed=seed, dose=dose, data=demonstrations.fingerprint)


def fit_presets(session: Any, settings: Sequence[FitSettings], progress: Progress) -> list[tuple[str, FitOutcome]]:
    """Fit several presets of a method with the same rows and seed."""
    n = len(settings)
    return [(str(one.preset), fit(session, one, progress.part(i / n, (i + 1) / n))) for i, one in enumerate(settings)]


def preset_rows(found: Sequence[tuple[str, FitOutcome]]) -> list[dict[str, Any]]:
    """Presets side by side as table rows: the first metric, then the report's numbers."""
    rows: list[dict[str, Any]] = []
    for name, outcome in found:
        row: dict[str, Any] = {"preset": name}
        if outcome.evaluation is not None and outcome.evaluation.benefit.metrics:
            metric = outcome.evaluation.benefit.metrics[0]
            row |= {"base": str(metric.values[0]), metric.title: str(metric.values[1])}
        row |= {key.replace("_", " "): round(value, 4) for key, value in outcome.fitted.report.scalars.items()}
        rows.append(row)
    return rows


def compare(session: Any, settings: CompareSettings, progress: Progress) -> Any:
    """Answer prompts under the base and each lane; the texts so far are in the job's `live["texts"]`."""
    return session.run(settings, progress=progress)
