"""A number that a lesson tells, in words or in a hint, is a condition or a setting of that step, or is measured by a test that is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.test_course import PATHS, lesson
from workbench.lessons.lesson import PLACE, Claim, LessonStep
from workbench.lessons.reading import read_lesson

PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
WHOLE = {"three": 3, "four": 4, "five": 5, "ten": 10, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100, "thousand": 1000}
TIMES = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4}
COUNTED = {"third": 2, "fourth": 3, "fifth": 4}
"""What comes third of those that are counted from zero."""
# A half is what guessing between two gives, and where layers are cut in two. How long a sink is, `test_walks` measures on both models.
PHRASES = ("half of the time", "half of the layers", "half of the model", "hundred times as long")


def told(step: LessonStep) -> Iterator[float]:
    """The numbers in what a learner reads of a step, facts of their own run apart."""
    answers = step.question.answers if step.question else ()
    texts = [step.task, step.idea, step.saw, *step.hints, *(step.question.ask for _ in answers[:1])]
    for text in [*texts, *(one for answer in answers for one in (answer.say, answer.reply))]:
        plain = PLACE.sub("", text).casefold()
        for phrase in PHRASES:
            plain = plain.replace(phrase, "")
        yield from (float(found) for found in re.findall(r"\d+(?:\.\d+)?", plain))
        for times, part in re.findall(rf"(?:\b({'|'.join(TIMES)}) )?\b({'|'.join(PARTS)})s?\b", plain):
            yield TIMES[times] / PARTS[part] if times else COUNTED.get(part, 1 / PARTS[part])
        for times, whole in re.findall(rf"(?:\b({'|'.join(TIMES)}) )?\b({'|'.join(WHOLE)})\b(?! (?:{'|'.join(PARTS)}))", plain):
            yield TIMES.get(times, 1) * WHOLE[whole]


def own(step: LessonStep) -> Iterator[float]:
    """The numbers that a step asks for or sets, and how many texts it fills in."""
    claims = [*step.check, *(one.right for one in (step.question.answers if step.question else ()) if isinstance(one.right, Claim))]
    for claim in claims:
        if isinstance(claim.value, float):
            yield from (claim.value, claim.value + 1) if claim.operator == ">" and claim.value.is_integer() else (claim.value,)
    for start in (step.start, step.shown):
        values: list[Any] = [] if start is None else [*start.controls.values(), *start.knobs.values()]
        yield len([value for value in values if isinstance(value, str)]) - 1  # the lens is no field
        for value in values:
            yield from (float(one) for one in (value if isinstance(value, list | tuple) else (value,)) if isinstance(one, int | float))


def unknown(step: LessonStep, before: LessonStep | None = None) -> list[float]:
    """Numbers that are neither asked for nor set here; those that the step before set may be told as a share of them."""
    mine = list(own(step))
    known = mine + ([here / there for here in mine for there in own(before) if there] if before else [])
    return [number for number in told(step) if not any(abs(number - one) <= 0.015 * abs(number) for one in known)]


@pytest.mark.parametrize(("name", "steps"), [pytest.param(name, found.steps, id=name) for name, found in PATHS])
def test_a_number_in_words_is_one_of_the_step(name: str, steps: tuple[LessonStep, ...]) -> None:
    assert [(i + 1, found) for i, step in enumerate(steps) if (found := unknown(step, steps[i - 1] if i else None))] == []


@pytest.mark.parametrize("says", ["a third of them", "three fifths", "two hundred words", "0.42 of them", "layer 7"])
def test_a_number_that_is_none_of_the_step_would_be_seen(says: str) -> None:
    (step,) = read_lesson(lesson(says, check="lens.tokens >= 5"), "x.yaml").steps
    assert len(unknown(step)) == 1
    (right,) = read_lesson(lesson("five words", check="lens.tokens >= 5"), "x.yaml").steps
    assert unknown(right) == []
