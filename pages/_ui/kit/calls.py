"""The calls of pages into the session that need more than one line, and how a page words their settings.

Heavy modules are imported inside the functions: a page must not wait for torch before it has drawn itself.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pages._ui.kit.backend import backend
from pages._ui.kit.state import Lane, state
from workbench.errors import RetouchError
from workbench.progress import Cancelled, Progress


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
    settings: Mapping[str, Any] | None = None
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


def edit_name(session: Any, edit: str) -> str:
    """What to call an edit; its id where it is not known any more."""
    try:
        return session.edit_name(edit)
    except RetouchError:
        return edit[:8]


def usable_lanes(session: Any) -> tuple[Lane, ...]:
    """The lanes that are on and whose edits are there and fit this model; the others are turned off."""
    known = known_edits(session)
    now = state()
    if any(lane.edit not in known for lane in now.lanes):
        now.lanes = tuple(lane for lane in now.lanes if lane.edit in known)
    return now.lanes


Lanes = tuple[tuple[str, float], ...]


def lane_key() -> Lanes:
    """The lanes that are on, as part of a result's settings."""
    return tuple((lane.edit, lane.dose) for lane in state().lanes)


def stacks(lanes: Sequence[Any]) -> list[Any]:
    """The untouched model, then a stack a lane, as the session takes them."""
    return [(), *([(edit, dose)] for edit, dose in lanes)]


def method(name: str) -> Any:
    """A registered method."""
    from workbench.methods import get

    return get(name)


def obstacles(session: Any, demonstrations: Any) -> dict[str, Any]:
    """Why each method cannot run here, by name; found once for each model and set (some methods look closely)."""
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


def fit(session: Any, settings: Mapping[str, Any], progress: Progress) -> FitOutcome:
    """Fit an edit, then measure it on the rows marked test, beside a placebo of equal size."""
    demonstrations = session.demos(settings["set"])
    with _best_so_far(settings):
        fitted = session.fit(
            settings["method"], demonstrations, dict(settings["values"]), seed=settings["seed"], progress=progress.part(0.0, 0.85)
        )
    return _measured(session, settings, fitted, progress)


def proceed(session: Any, settings: Mapping[str, Any], edit: str, progress: Progress) -> FitOutcome:
    """Go on with the search that found an edit until the budget of the settings is used up; then measure as after a fit."""
    budget = int(settings["values"]["budget"])
    with _best_so_far(settings, {"budget": budget}):
        fitted = session.proceed(edit, settings["set"], budget, progress=progress.part(0.0, 0.85))
    return replace(_measured(session, settings, fitted, progress), chosen={"budget": budget})


@contextmanager
def _best_so_far(settings: Mapping[str, Any], chosen: Mapping[str, Any] | None = None) -> Generator[None]:
    """A cancelled fit that had something hands it on as an outcome that was not measured."""
    try:
        yield
    except Cancelled as cancelled:
        if cancelled.best is None:
            raise
        raise Cancelled(_unmeasured(cancelled.best, settings, chosen)) from None


def _unmeasured(fitted: Any, settings: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> FitOutcome:
    why = "The fit was cancelled; this is the best it had. The page Evaluate measures it."
    return FitOutcome(fitted.edit.id, settings["method"], fitted, None, float(settings["dose"]), why, settings, chosen)


def choose(session: Any, settings: Mapping[str, Any], progress: Progress) -> FitOutcome:
    """Let validation choose the knobs that are worth trying and the dose, within a limit of damage; then measure as after a fit."""
    from workbench.knobs import as_json
    from workbench.methods.choice import Choice, grid

    name, demonstrations = settings["method"], session.demos(settings["set"])
    tried = grid(name, session.model.info)
    fixed = {knob: value for knob, value in settings["values"].items() if knob not in tried}
    rest = {key: value for key, value in settings.items() if key != "max_damage"}

    def told(found: Any) -> dict[str, Any]:
        config = method(name).configure({**fixed, **found.best.values})
        return {**rest, "values": as_json(config), "dose": found.best.dose}

    try:
        found = session.choose(
            name, demonstrations, fixed, max_damage=settings["max_damage"], seed=settings["seed"], progress=progress.part(0.0, 0.85)
        )
    except Cancelled as cancelled:
        best: Any = cancelled.best
        if best is None:
            raise
        if not isinstance(best, Choice):  # the first fit was cancelled, and had something
            raise Cancelled(_unmeasured(best, rest, None)) from None
        raise Cancelled(_unmeasured(best.fitted, told(best), dict(best.best.values))) from None
    return replace(_measured(session, told(found), found.fitted, progress), chosen=dict(found.best.values))


def _measured(session: Any, settings: Mapping[str, Any], fitted: Any, progress: Progress) -> FitOutcome:
    edit, dose = fitted.edit.id, float(settings["dose"])
    progress(0.86, "Measuring it on held-out rows")
    try:
        # The quick look: the page Evaluate measures more, repetition too.
        rows = session.demos(settings["set"])
        evaluation = session.evaluate((edit, dose), rows, n_placebos=2, n_generations=0, progress=progress.part(0.86, 1.0))
    except RetouchError as error:
        return FitOutcome(edit, settings["method"], fitted, None, dose, str(error), settings)
    except Cancelled:  # the fit itself was finished
        why = "The measuring was cancelled. The page Evaluate measures it."
        raise Cancelled(FitOutcome(edit, settings["method"], fitted, None, dose, why, settings)) from None
    return FitOutcome(edit, settings["method"], fitted, evaluation, dose, settings=settings)


def fit_settings(chosen: str, demonstrations: Any, name: str, values: Mapping[str, Any], seed: int, dose: float = 1.0) -> dict[str, Any]:
    """What a fit comes from, with every knob's value, and the dose it is measured at; equal settings give an equal edit."""
    from workbench.knobs import as_json

    try:
        told = as_json(method(name).configure(values))
    except RetouchError:  # the form shows it; the values as typed still tell this form from another
        told = dict(values)
    return {"set": chosen, "data": demonstrations.fingerprint, "method": name, "values": told, "seed": seed, "dose": dose}


def fit_presets(session: Any, settings: Mapping[str, Any], progress: Progress) -> list[tuple[str, FitOutcome]]:
    """Fit several presets of a method with the same rows and seed."""
    found, names = [], settings["presets"]
    for i, name in enumerate(names):
        values = method(settings["method"]).presets[name]
        part = progress.part(i / len(names), (i + 1) / len(names))
        found.append((name, fit(session, {**settings, "values": values}, part)))
    return found


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


def compare(session: Any, settings: Mapping[str, Any], progress: Progress) -> Any:
    """Answer prompts under the base and each lane; the texts so far are in the job's `live["texts"]`."""
    from workbench.decode import Sampling

    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "same_seed")
    sampling = Sampling(**{name: settings[name] for name in names})
    return session.compare(list(settings["prompts"]), stacks(settings["lanes"])[1:], sampling, progress=progress)
