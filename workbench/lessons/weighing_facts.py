"""Facts of what a learner weighed: doses, contests at equal damage, the plane of turning and stretching."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from workbench.lessons.attempt import Attempt, FactValue, Vocabulary

if TYPE_CHECKING:
    from workbench.evaluate.dose import DoseSweep
    from workbench.evaluate.dose_plane import DosePlane, Placed
    from workbench.evaluate.equal_damage import EqualDamage, Standing


def add_weighing(facts: Vocabulary) -> None:
    """Add them to a vocabulary."""
    _sweep(facts)
    _contest(facts)
    _plane(facts)


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

    @facts.of(at, "sweep.damage", "The damage at the largest dose, in nats a token")
    def _(found: DoseSweep, of: str) -> FactValue | None:
        metric = next((metric for metric in found.metrics if "kl" in metric.name.lower()), None)
        return None if metric is None else float(metric.values[-1].estimate)


def _best(found: DoseSweep) -> int:
    values = [value.estimate for value in found.metrics[0].values]
    return int(np.nanargmax(values if found.metrics[0].better != "lower" else [-value for value in values]))


def _contest(facts: Vocabulary) -> None:
    at = "equal-damage"

    @facts.of(at, "contest.data", "The set")
    def _(found: EqualDamage, of: str) -> FactValue:
        return found.data

    @facts.of(at, "contest.edits", "The number of edits")
    def _(found: EqualDamage, of: str) -> FactValue:
        return sum(one.is_edit for one in found.standings[1:])

    @facts.of(at, "contest.prompts", "The number of prompts beside them")
    def _(found: EqualDamage, of: str) -> FactValue:
        return sum(map(_is_prompt, found.standings[1:]))

    @facts.of(at, "contest.best_edit", "The best edit's score")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return _best_of(found, lambda one: one.is_edit)

    @facts.of(at, "contest.best_prompt", "The best prompt's score")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return _best_of(found, _is_prompt)

    @facts.of(at, "contest.gain", "How far the best edit is ahead of the untouched model")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return _ahead(found, _best_of(found, lambda one: one.is_edit), float(found.standings[0].gain.estimate))

    @facts.of(at, "contest.ahead", "How far the best edit is ahead of the best prompt")
    def _(found: EqualDamage, of: str) -> FactValue | None:
        return _ahead(found, _best_of(found, lambda one: one.is_edit), _best_of(found, _is_prompt))

    @facts.of(at, "contest.base", "The score of the untouched model")
    def _(found: EqualDamage, of: str) -> FactValue:
        return float(found.standings[0].gain.estimate)

    @facts.of(at, "contest.limit", "The limit of damage, in nats a token")
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


def _is_prompt(one: Standing) -> bool:
    return one.label.prompting is not None and not one.label.edit_ids


def _best_of(found: EqualDamage, wanted: Callable[[Standing], bool]) -> float | None:
    """The best score of some lanes, the way that the score is better."""
    scores = [float(one.gain.estimate) for one in found.standings[1:] if wanted(one)]
    scores = [score for score in scores if not math.isnan(score)]
    return (min if found.better == "lower" else max)(scores, default=None)


def _ahead(found: EqualDamage, one: float | None, other: float | None) -> float | None:
    """How much better one score is than another."""
    return None if one is None or other is None else (other - one if found.better == "lower" else one - other)


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

    def length(attempt: Attempt, of: str) -> FactValue | None:
        return _at_own_dose(attempt, of, lambda one: one.lengths)

    def stretch(attempt: Attempt, of: str) -> FactValue | None:
        times = _at_own_dose(attempt, of, lambda one: one.lengths)
        return None if times is None else abs(times - 1)

    facts.add("plane.angle", "The degrees by which your edit turns", lambda attempt, of: _at_own_dose(attempt, of, lambda one: one.angles))
    facts.add("plane.length", "How many times as long it makes the stream", length)
    facts.add("plane.stretch", "By what share of its length it stretches or shrinks the stream", stretch)

    @facts.of(at, "plane.turning", "The most that turning alone gains within what is safe, in nats")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return None if 1.0 not in found.lengths else _most_safe(found, (slice(None), found.lengths.index(1.0)))

    @facts.of(at, "plane.stretching", "The most that stretching alone gains within what is safe, in nats")
    def _(found: DosePlane, of: str) -> FactValue | None:
        return None if 0.0 not in found.angles else _most_safe(found, (found.angles.index(0.0), slice(None)))


def _at_own_dose(attempt: Attempt, method: str, of: Callable[[Placed], tuple[float, ...]]) -> float | None:
    """What the first edit of a method that this person made in this lesson does at the dose that it was asked about at."""
    found: DosePlane | None = attempt.results.get("dose-plane")
    placed = () if found is None else found.placed
    one = next((one for one in placed if method in one.label.label and attempt.edits & set(one.label.edit_ids)), None)
    return None if one is None else of(one)[one.doses.index(1.0)]


def _most_safe(found: DosePlane, line: tuple[slice | int, slice | int]) -> float | None:
    gains = found.gain[line][found.damage[line] <= found.limit]
    return float(gains.max()) if gains.size else None
