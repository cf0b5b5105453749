"""Edit: what a fit comes from and what it gives: fitted, chosen by validation or gone on with, then measured on held-out rows."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pages._ui.kit import jobs
from pages._ui.kit.methods import method
from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Lane, Named
from workbench.errors import RetouchError
from workbench.progress import Cancelled, Progress
from workbench.settings import NO_RIVALS, ChoiceSettings, EvaluateSettings, FitSettings, Rivals

if TYPE_CHECKING:
    from workbench.evaluate.evaluation import Evaluation
    from workbench.methods.choice import Choice
    from workbench.methods.registry import Fitted, Method
    from workbench.session import Session


@dataclass(frozen=True)
class FitOutcome:
    """A fit and what it did to held-out rows; `evaluation` is None where the set has nothing to score.

    `settings` are those of the fit with every knob's value, as `fit_settings` words them.
    """

    fitted: Fitted
    evaluation: Evaluation | None
    settings: FitSettings
    why_not: str = ""
    chosen: Mapping[str, Any] | None = None
    """Knobs that came of the fit and not of the form: chosen by validation, or a larger budget."""
    fit_s: float = 0.0
    """Seconds that the fit took, and so about what another one on shuffled sides takes."""

    @property
    def edit(self) -> str:
        """The id of the edit."""
        return self.fitted.edit.id


VERDICT_S = float(os.environ.get("RETOUCH_VERDICT_S", "10"))
"""About how long the first verdict on a fit may take; it says on how many rows it stands, and Evaluate measures all."""
SHORT_FIT_S = 5.0
"""A fit that took less than this is fitted again on shuffled sides without being asked; for the others a button says what it costs."""
FIT: jobs.Slot[FitSettings, FitOutcome] = jobs.Slot("fit", told=lambda outcome: outcome.settings)
# Presets by name, each fitted with the same rows and seed.
PRESETS: jobs.Slot[tuple[FitSettings, ...], Sequence[tuple[str, FitOutcome]]] = jobs.Slot("presets")


def fit_settings(
    chosen: str,
    demonstrations: Demonstrations,
    name: str,
    values: Mapping[str, Any],
    seed: int,
    dose: float = 1.0,
    chat: bool | None = None,
    rivals: Rivals = NO_RIVALS,
    system: str = "",
    place: str = "",
) -> FitSettings:
    """What a fit comes from, with every knob's value, the dose and the rivals it is measured at and beside, and where it is to act."""
    from workbench.knobs import as_json

    try:
        told = as_json(method(name).configure(values))
    except RetouchError:  # the form shows it; the values as typed still tell this form from another
        told = dict(values)
    how: dict[str, Any] = {"seed": seed, "dose": dose, "chat": chat, "system": system, "rivals": rivals, "place": place}
    return FitSettings(name, chosen, told, data=demonstrations.fingerprint, **how)


def knob_problem(known: Method, values: Mapping[str, Any]) -> RetouchError | None:
    """What is wrong with the form's values, if anything."""
    try:
        known.configure(values)
    except RetouchError as error:
        return error
    return None


def fit(session: Session, settings: FitSettings, progress: Progress) -> FitOutcome:
    """Fit an edit, then measure it on the rows marked test, beside a placebo of equal size."""
    began = time.monotonic()
    with _best_so_far(settings):
        fitted = session.run(settings, progress=progress.part(0.0, 0.85))
    fit_s = time.monotonic() - began
    return replace(_measured(session, settings, fitted, progress, shuffled=fit_s < SHORT_FIT_S), fit_s=fit_s)


def proceed(session: Session, settings: FitSettings, edit: str, progress: Progress) -> FitOutcome:
    """Go on with the search that found an edit until the budget of the settings is used up; then measure as after a fit."""
    budget: Any = settings.config["budget"]
    began = time.monotonic()
    with _best_so_far(settings, {"budget": budget}):
        fitted = session.proceed(edit, settings.source, budget, progress=progress.part(0.0, 0.85))
    fit_s = time.monotonic() - began
    return replace(_measured(session, settings, fitted, progress), chosen={"budget": budget}, fit_s=fit_s)


def with_shuffled(session: Session, outcome: FitOutcome, progress: Progress) -> FitOutcome:
    """Fit the method again on shuffled sides, and measure it beside the edit and its placebo."""
    waiting = replace(outcome, evaluation=None, why_not="It is being measured again, beside the same method on shuffled sides.")
    progress(0.0, "Fitting on shuffled sides", outcome=waiting)
    try:
        evaluation = session.run(_quick(outcome.settings, outcome.edit, shuffled=True), progress=progress)
    except Cancelled:
        raise Cancelled(outcome) from None
    return replace(outcome, evaluation=evaluation)


def fit_presets(session: Session, settings: Sequence[FitSettings], progress: Progress) -> Sequence[tuple[str, FitOutcome]]:
    """Fit several presets of a method with the same rows and seed."""
    n, found = len(settings), list[tuple[str, FitOutcome]]()
    for i, one in enumerate(settings):
        try:
            found.append((str(one.preset), fit(session, one, progress.part(i / n, (i + 1) / n))))
        except Cancelled:  # what one preset had by then is no result of several; those before it are
            raise Cancelled(found or None) from None
    return found


def choose(session: Session, settings: ChoiceSettings, progress: Progress) -> FitOutcome:
    """Let validation choose the knobs that are worth trying and the dose, within a limit of damage; then measure as after a fit."""
    from workbench.knobs import as_json
    from workbench.methods.choice import Choice

    name, tried = settings.method, method(settings.method).tries(session.model.info)
    fixed = {knob: value for knob, value in settings.config.items() if knob not in tried}
    as_asked = FitSettings(
        name, settings.source, settings.config, None, settings.seed, settings.dose, settings.data, settings.chat, settings.system,
        settings.rivals, settings.place,
    )  # fmt: skip

    def told(found: Choice) -> FitSettings:
        return replace(as_asked, config=as_json(method(name).configure({**fixed, **found.best.values})), dose=found.best.dose)

    began = time.monotonic()
    try:
        found = session.choose(
            name, settings.source, fixed, max_damage=settings.max_damage, seed=settings.seed, chat=settings.chat, system=settings.system,
            place=settings.place, progress=progress.part(0.0, 0.85),
        )  # fmt: skip
    except Cancelled as cancelled:
        best: Any = cancelled.best
        if best is None:
            raise
        if not isinstance(best, Choice):  # the first fit was cancelled, and had something
            raise Cancelled(_unmeasured(best, as_asked)) from None
        raise Cancelled(_unmeasured(best.fitted, told(best), dict(best.best.values))) from None
    fit_s = time.monotonic() - began
    return replace(_measured(session, told(found), found.fitted, progress), chosen=dict(found.best.values), fit_s=fit_s)


@contextmanager
def _best_so_far(settings: FitSettings, chosen: Mapping[str, Any] | None = None) -> Generator[None]:
    """A cancelled fit that had something hands it on as an outcome that was not measured."""
    try:
        yield
    except Cancelled as cancelled:
        best: Any = cancelled.best
        if best is None:
            raise
        raise Cancelled(_unmeasured(best, settings, chosen)) from None


def _unmeasured(fitted: Fitted, settings: FitSettings, chosen: Mapping[str, Any] | None = None) -> FitOutcome:
    why = "The fit was cancelled; this is the best it had. The page Evaluate measures it."
    return FitOutcome(fitted, None, settings, why, chosen)


def _measured(session: Session, settings: FitSettings, fitted: Fitted, progress: Progress, *, shuffled: bool = False) -> FitOutcome:
    at_hand = FitOutcome(fitted, None, settings, "It is being measured on held-out rows: the verdict comes once all of them are.")
    progress(0.86, "Measuring it on held-out rows", outcome=at_hand)
    try:
        # A set that was edited meanwhile cannot be fitted again shuffled.
        shuffled &= session.demos.resolve(settings.source).fingerprint == fitted.edit.header.data
        evaluation = session.run(_quick(settings, fitted.edit.id, shuffled=shuffled), progress=progress.part(0.86, 1.0))
    except RetouchError as error:
        return FitOutcome(fitted, None, settings, str(error))
    except Cancelled:  # the fit itself was finished
        why = "The measuring was cancelled. The page Evaluate measures it."
        raise Cancelled(FitOutcome(fitted, None, settings, why)) from None
    return FitOutcome(fitted, evaluation, settings)


def _quick(settings: FitSettings, edit: str, *, shuffled: bool) -> EvaluateSettings:
    """The first look at a fit: the page Evaluate measures more, repetition too."""
    lanes = settings.rivals.lanes(Lane((Named(edit, settings.dose),)))
    return EvaluateSettings(lanes, settings.source, n_placebos=2, n_generations=0, seconds=VERDICT_S, shuffled=shuffled)
