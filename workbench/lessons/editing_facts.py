"""Facts of what a learner fitted, compared and measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.lessons.attempt import Attempt, FactValue, Vocabulary

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.evaluate.dose import DoseSweep
    from workbench.evaluate.dose_plane import DosePlane, Placed
    from workbench.evaluate.equal_damage import EqualDamage, Standing
    from workbench.evaluate.evaluation import Evaluation
    from workbench.evaluate.metrics import Metric
    from workbench.methods.registry import Fitted


class Outcome(Protocol):
    """A fit with what it was measured to do, as the place `fit` holds it."""

    @property
    def fitted(self) -> Fitted: ...
    @property
    def evaluation(self) -> Evaluation | None: ...
    @property
    def settings(self) -> Any: ...


def add_editing(facts: Vocabulary) -> None:
    """Add them to a vocabulary."""
    _fit(facts)
    _measured(facts, "fit", "fit", lambda found: found.evaluation)
    _measured(facts, "evaluate", "evaluate", lambda found: found)
    _compare(facts)
    _sweep(facts)
    _contest(facts)
    _plane(facts)


def _fit(facts: Vocabulary) -> None:
    at = "fit"

    @facts.of(at, "fit.method", "The method")
    def _(found: Outcome, of: str) -> FactValue:
        return found.fitted.edit.header.method

    @facts.of(at, "fit.set", "The set")
    def _(found: Outcome, of: str) -> FactValue:
        return str(found.settings.source)

    @facts.of(at, "fit.dose", "The dose")
    def _(found: Outcome, of: str) -> FactValue:
        return float(found.settings.dose)

    @facts.of(at, "fit.knob", "The knob")
    def _(found: Outcome, of: str) -> FactValue | None:
        value: Any = found.fitted.edit.header.config.get(of)
        if isinstance(value, bool | str) or value is None:
            return value
        return float(value) if isinstance(value, int | float) else ", ".join(map(str, value))

    @facts.of(at, "fit.number", "The fit's own number")
    def _(found: Outcome, of: str) -> FactValue | None:
        value = found.fitted.report.scalars.get(of)
        return None if value is None else float(value)

    @facts.of(at, "fit.largest", "The largest value")
    def _(found: Outcome, of: str) -> FactValue | None:
        """The largest first value of the arrays of a name: `cumulative_plus` of every layer."""
        values = [array.flat[0] for name, array in found.fitted.report.arrays.items() if name.partition("[")[0] == of and array.size]
        return float(max(values)) if values else None


def _measured(facts: Vocabulary, place: str, name: str, of_result: Callable[[Any], Evaluation | None]) -> None:
    """What an evaluation says of the first edit: after a fit, and on Evaluate."""

    def fact(end: str, words: str, read: Callable[[Evaluation, str], FactValue | None]) -> None:
        @facts.of(place, f"{name}.{end}", words)
        def _(found: Any, of: str) -> FactValue | None:
            measured = of_result(found)
            return None if measured is None else read(measured, of)

    def value(kind: Callable[[Evaluation], int | None]) -> Callable[[Evaluation, str], FactValue | None]:
        def read(found: Evaluation, of: str) -> FactValue | None:
            metric, lane = _metric(found, of), kind(found)
            return None if metric is None or lane is None else float(metric.values[lane].estimate)

        return read

    def gain(found: Evaluation, of: str) -> FactValue | None:
        metric, lane = _metric(found, of), _edit(found)
        change = None if metric is None or lane is None else metric.changes[lane]
        return None if change is None else float(change.estimate)

    fact("verdict", "The verdict", lambda found, of: found.verdict.kind)
    fact("beats_placebo", "Better than the placebo beyond chance", lambda found, of: found.verdict.beats_placebo)
    fact("n", "The number of rows", lambda found, of: float(found.benefit.n))
    fact("base", "The score without the edit", value(lambda found: 0))
    fact("edit", "The score with the edit", value(_edit))
    fact("placebo", "The placebo's score", value(_control("placebo")))
    fact("shuffled", "The score with shuffled sides", value(_control("shuffled")))
    fact("prompt", "The score with a sentence before each question", value(_prompt))
    fact("opposed", "The edit's score behind a sentence that asks for the opposite", value(_opposed))
    fact("overruled", "The score with both sentences, the opposite last, and no edit", value(_overruled))
    fact("gain", "The change by the edit", gain)


def _metric(found: Evaluation, of: str) -> Metric | None:
    """The metric of a name, of gain or damage; without a name the first one of gain."""
    return next((metric for metric in found.all_metrics if not of or metric.name == of), None)


def _edit(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.edit_ids and not lane.control and lane.prompting is None), None)


def _prompt(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.prompting is not None and not lane.edit_ids), None)


def _opposed(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.edit_ids and lane.prompting is not None and not lane.control), None)


def _overruled(found: Evaluation) -> int | None:
    """The lane of two sentences: the third without an edit, behind one of either sentence."""
    prompts = [at for at, lane in enumerate(found.lanes) if lane.prompting is not None and not lane.edit_ids]
    return prompts[2] if len(prompts) > 2 else None


def _control(kind: str) -> Callable[[Evaluation], int | None]:
    return lambda found: next((at for at, lane in enumerate(found.lanes) if lane.control == kind), None)


def _compare(facts: Vocabulary) -> None:
    at = "compare"

    @facts.of(at, "compare.prompt", "What was asked")
    def _(found: Comparison, of: str) -> FactValue:
        return " / ".join(map(str, found.prompts))

    @facts.of(at, "compare.lanes", "The number of lanes")
    def _(found: Comparison, of: str) -> FactValue:
        return len(found.lanes)

    @facts.of(at, "compare.base", "What the untouched model says")
    def _(found: Comparison, of: str) -> FactValue:
        return found.texts[0][0].text.strip()

    @facts.of(at, "compare.last", "What the last lane says")
    def _(found: Comparison, of: str) -> FactValue:
        return found.texts[0][-1].text.strip()

    def mine(attempt: Attempt, of: str) -> FactValue | None:
        found = attempt.results.get(at)
        return None if found is None else float(len(_mine(found, attempt.edits)))

    def changed(attempt: Attempt, of: str) -> FactValue | None:
        """Prompts on which a lane of one's own edit says something else than the base."""
        found = attempt.results.get(at)
        if found is None or not (lanes := _mine(found, attempt.edits)):
            return None
        return float(sum(any(texts[lane].text != texts[0].text for lane in lanes) for texts in found.texts))

    facts.add("compare.mine", "The number of lanes with an edit that you made in this lesson", mine)
    facts.add("compare.changed", "The number of prompts that your edit answers otherwise", changed)


def _mine(found: Comparison, edits: frozenset[str]) -> list[int]:
    """The lanes with an edit of these; a saved one keeps the id of its fit as the beginning of its own."""
    return [i for i, lane in enumerate(found.lanes) if edits & set(lane.edit_ids)]


def _sweep(facts: Vocabulary) -> None:
    at = "sweep"

    @facts.of(at, "sweep.doses", "The number of doses")
    def _(found: DoseSweep, of: str) -> FactValue:
        return len(found.doses)

    @facts.of(at, "sweep.best_dose", "The dose with the highest score")
    def _(found: DoseSweep, of: str) -> FactValue:
        return found.doses[_best(found)]

    @facts.of(at, "sweep.best", "The highest score")
    def _(found: DoseSweep, of: str) -> FactValue:
        return float(found.metrics[0].values[_best(found)].estimate)

    @facts.of(at, "sweep.damage", "The damage at the largest dose")
    def _(found: DoseSweep, of: str) -> FactValue | None:
        metric = next((metric for metric in found.metrics if "kl" in metric.name.lower()), None)
        return None if metric is None else float(metric.values[-1].estimate)


def _best(found: DoseSweep) -> int:
    values = [value.estimate for value in found.metrics[0].values]
    return int(np.nanargmax(values if found.metrics[0].better != "lower" else [-value for value in values]))


def _contest(facts: Vocabulary) -> None:
    at = "equal-damage"

    def gain(found: EqualDamage, wanted: Callable[[Any], bool]) -> float | None:
        gains = [one.gain.estimate for one in found.standings[1:] if wanted(one.label)]
        gains = [value for value in gains if not math.isnan(value)]
        return max(gains, default=None)

    @facts.of(at, "contest.edits", "The number of edits")
    def _(found: EqualDamage, of: str) -> FactValue:
        return sum(bool(one.label.edit_ids) and one.label.prompting is None for one in found.standings[1:])

    @facts.of(at, "contest.prompts", "The number of prompts beside them")
    def _(found: EqualDamage, of: str) -> FactValue:
        return sum(one.label.prompting is not None and not one.label.edit_ids for one in found.standings[1:])

    @facts.of(at, "contest.best_edit", "The best edit's score")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return gain(found, lambda label: bool(label.edit_ids) and label.prompting is None)

    @facts.of(at, "contest.best_prompt", "The best prompt's score")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return gain(found, lambda label: label.prompting is not None and not label.edit_ids)

    @facts.of(at, "contest.base", "The score of the untouched model")
    def _(found: EqualDamage, of: str) -> FactValue:
        return float(found.standings[0].gain.estimate)

    @facts.of(at, "contest.limit", "The limit of damage")
    def _(found: EqualDamage, of: str) -> FactValue:
        return found.limit

    @facts.of(at, "contest.doing", "The number of edits that do more than random ones within the limit")
    def _(found: EqualDamage, of: str) -> FactValue:
        return sum(one.shows == "does it" for one in found.standings if one.is_edit)

    @facts.of(at, "contest.dose", "The dose at which the best edit stands")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        best = _first_edit(found)
        return None if best is None else best.dose

    @facts.of(at, "contest.random", "The score of random edits like the best one")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        best = _first_edit(found)
        return None if best is None or best.placebo is None else float(best.placebo.gain.estimate)


def _first_edit(found: EqualDamage) -> Standing | None:
    """The edit that gains most: they stand by what they gain."""
    return next((one for one in found.standings if one.is_edit), None)


def _plane(facts: Vocabulary) -> None:
    at = "dose-plane"

    @facts.of(at, "plane.layer", "The layer")
    def _(found: DosePlane, of: str) -> FactValue:
        return found.layer

    @facts.of(at, "plane.data", "The set")
    def _(found: DosePlane, of: str) -> FactValue:
        return found.data

    @facts.of(at, "plane.angle", "The degrees by which the edit turns")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return _at_own_dose(found, of, lambda one: one.angles)

    @facts.of(at, "plane.length", "How many times as long it makes the stream")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return _at_own_dose(found, of, lambda one: one.lengths)

    @facts.of(at, "plane.stretch", "By what share of its length it stretches or shrinks the stream")
    def _(found: DosePlane, of: str) -> FactValue | None:
        length = _at_own_dose(found, of, lambda one: one.lengths)
        return None if length is None else abs(length - 1)

    @facts.of(at, "plane.turning", "The most that turning alone gains within what is safe")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return None if 1.0 not in found.lengths else _most_safe(found, (slice(None), found.lengths.index(1.0)))

    @facts.of(at, "plane.stretching", "The most that stretching alone gains within what is safe")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return None if 0.0 not in found.angles else _most_safe(found, (found.angles.index(0.0), slice(None)))


def _at_own_dose(found: DosePlane, method: str, of: Callable[[Placed], tuple[float, ...]]) -> float | None:
    """What the first edit of a method does at the dose that it was asked about at."""
    one = next((one for one in found.placed if method in one.label.label), None)
    return None if one is None else of(one)[one.doses.index(1.0)]


def _most_safe(found: DosePlane, line: tuple[slice | int, slice | int]) -> float | None:
    gains = found.gain[line][found.damage[line] <= found.limit]
    return float(gains.max()) if gains.size else None
