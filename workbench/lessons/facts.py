"""Whether conditions hold of an attempt, and texts filled in with its facts."""

from __future__ import annotations

import math
from collections.abc import Iterable

from workbench.lessons import editing_facts, looking_facts, teaching_facts, weighing_facts
from workbench.lessons.attempt import Attempt, FactValue, Vocabulary
from workbench.lessons.lesson import PLACE, READING, Claim, FactRef, LessonStep

FACTS = Vocabulary()
looking_facts.add_looking(FACTS)
editing_facts.add_editing(FACTS)
weighing_facts.add_weighing(FACTS)
teaching_facts.add_teaching(FACTS)


def value_of(attempt: Attempt, reading: FactRef) -> FactValue | None:
    """A fact of an attempt; None where nothing was done that tells it. What is no finite number tells nothing."""
    found = FACTS[reading.fact].read(attempt, reading.of)
    return attempt.kept.get(str(reading)) if found is None or isinstance(found, float) and not math.isfinite(found) else found


def holds(attempt: Attempt, condition: Claim) -> bool:
    """Whether a condition holds; not while its fact, or the one that it is compared with, is not there."""
    found = value_of(attempt, condition.reading)
    value = value_of(attempt, condition.value) if isinstance(condition.value, FactRef) else condition.value
    if found is None or value is None:
        return False
    if condition.operator == "has":
        return str(value).casefold() in str(found).casefold()
    if condition.operator == "=":
        return _same(found, value)
    if isinstance(found, str) or isinstance(value, str):
        return False
    return {">=": found >= value, "<=": found <= value, ">": found > value, "<": found < value}[condition.operator]


def _same(found: FactValue, value: FactValue) -> bool:
    if isinstance(found, bool):
        return found == (str(value).casefold() in ("true", "yes", "1.0", "1"))
    return found == value if isinstance(found, str) == isinstance(value, str) else str(found) == str(value)


def met(attempt: Attempt, check: Iterable[Claim]) -> bool:
    """Whether all conditions of a step hold."""
    return all(holds(attempt, condition) for condition in check)


def not_yet(attempt: Attempt, step: LessonStep) -> tuple[str, ...]:
    """What of a step was done and does not hold yet, in words with both values; empty while nothing was done."""
    found: list[str] = []
    for condition in step.check:
        value = value_of(attempt, condition.reading)
        if value is None or holds(attempt, condition):
            continue
        needed = value_of(attempt, condition.value) if isinstance(condition.value, FactRef) else condition.value
        words = FACTS[condition.reading.fact].words
        of = f" ({condition.reading.of})" if condition.reading.of else ""
        found.append(f"{words}{of} is {fact_shown(value)}; {_NEEDS[condition.operator]} {fact_shown(needed)} is asked for.")
    return tuple(found)


_NEEDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than", "=": "exactly", "has": "something with"}


def filled_in(text: str, attempt: Attempt) -> str:
    """A text with each fact in braces as the learner's own run has it; `–` where nothing tells it."""

    def value(name: str) -> str:
        match = READING.fullmatch(name.strip())
        return "–" if match is None else fact_shown(value_of(attempt, FactRef(match[1], match[2] or "")))

    return PLACE.sub(lambda match: value(match[1]), text)


def fact_shown(value: FactValue | None) -> str:
    """A fact as people read it: three significant digits, `yes` and `no`."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
