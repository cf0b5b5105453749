"""What a lesson is: steps with a task, a known-good start, hints, and conditions on what the learner really did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Operator = Literal[">=", "<=", ">", "<", "=", "has"]
READING = re.compile(r"([a-z_]+\.[a-z_]+)(?:\(([^()]*)\))?")
# What stands between braces in a text, or behind the operator of a condition, is a fact of the learner's own work.
PLACE = re.compile(r"\{([^{}]+)\}")

PAGES = (
    "Start", "Model", "Inspect", "Demonstrations", "Edit", "Compare", "Spectra", "Senses", "Evaluate", "Library", "Learn", "Story",
)  # fmt: skip
"""The pages that a step may begin on, by their titles."""


@dataclass(frozen=True)
class FactRef:
    """A fact by its name, perhaps with what it is asked about: `heads.score(induction)`."""

    fact: str
    of: str = ""

    def __str__(self) -> str:
        return f"{self.fact}({self.of})" if self.of else self.fact


def readings_in(text: str) -> tuple[FactRef, ...]:
    """The facts that a text names in braces."""
    matches = (READING.fullmatch(name.strip()) for name in PLACE.findall(text))
    return tuple(FactRef(match[1], match[2] or "") for match in matches if match)


@dataclass(frozen=True)
class Claim:
    """What has to hold of a fact: `heads.score(induction) >= 0.5`, `compare.prompt has carrots`, `circuit.recovered > {circuit.random}`."""

    reading: FactRef
    operator: Operator
    value: float | str | FactRef

    def __str__(self) -> str:
        value = f"{{{self.value}}}" if isinstance(self.value, FactRef) else self.value
        return f"{self.reading} {self.operator} {value}"


@dataclass(frozen=True)
class StepStart:
    """A known-good start: a page with its settings, as a link has them. Nothing is run.

    `controls` are values of the page's controls by their keys; `knobs` those of the method's form.
    """

    page: str
    set: str = ""
    method: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    controls: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class AnswerOption:
    """One answer of a question; right always, or where the condition holds of the learner's own work. `reply` may name facts in braces."""

    say: str
    reply: str
    right: bool | Claim


@dataclass(frozen=True)
class Question:
    """A question with answers to choose from; each is answered out of the learner's own run."""

    ask: str
    answers: tuple[AnswerOption, ...]


@dataclass(frozen=True)
class LessonStep:
    """One task: an idea of two sentences, where it starts, what has to come of it, two hints, and the controls that *show me* presses.

    `explains` are the technical words that this step tells; `saw` asks for what the learner saw, in words of their own. `shown` is where
    *show me* begins, if not at the start: something is to be mended there. `real` is the step as it is done on a model of `Lesson.real`.
    """

    task: str
    idea: str
    start: StepStart
    check: tuple[Claim, ...]
    hints: tuple[str, str]
    press: tuple[str, ...]
    question: Question | None = None
    explains: tuple[str, ...] = ()
    saw: str = ""
    shown: StepStart | None = None
    real: LessonStep | None = None

    @property
    def readings(self) -> tuple[FactRef, ...]:
        """Every fact that its conditions and its question ask for."""
        answers = self.question.answers if self.question else ()
        conditions = [*self.check, *(answer.right for answer in answers if isinstance(answer.right, Claim))]
        found = [condition.reading for condition in conditions]
        found += [condition.value for condition in conditions if isinstance(condition.value, FactRef)]
        found += [reading for answer in answers for reading in readings_in(answer.reply)]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Lesson:
    """A unit of so many minutes on a model that ships, or on one of `real`; `can` is what the learner can do after it.

    `only`: of one without `real`, why it is done on its own model alone, for who has another one.
    """

    id: str
    title: str
    minutes: int
    about: str
    can: str
    steps: tuple[LessonStep, ...]
    model: str = "embedded"
    real: tuple[str, ...] = ()
    only: str = ""

    def on(self, model: str) -> Lesson:
        """The lesson as it is done on a model: on one of `real`, with the prompts, sets and thresholds that hold there."""
        steps = tuple(step.real or step for step in self.steps) if model in self.real else self.steps
        return replace(self, steps=steps)

    def runs_on(self, model: str) -> bool:
        """Whether what is done on a model counts."""
        return model == self.model or model in self.real
