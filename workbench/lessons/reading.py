"""Lessons from YAML: everything is checked where it is read, and what is wrong is told with file, line and field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from workbench.errors import BadLesson
from workbench.lessons.facts import FACTS
from workbench.lessons.lesson import PAGES, PLACE, READING, AnswerOption, Claim, FactRef, Lesson, LessonStep, Question, StepStart

Item = TypeVar("Item")
_CONDITION = re.compile(rf"({READING.pattern})\s+(>=|<=|>|<|=|has)\s+(.+)")
_ID = re.compile(r"[a-z][a-z0-9-]*")
_NEEDED, _OTHER = ("task", "idea", "start", "check", "hints", "press"), ("question", "explains", "saw", "shown")
MOST_WORDS = 60
"""Most words of a text of one step."""
STATE = "retouch"
"""Under what key the app keeps what a tab knows; no control has it."""


@dataclass(frozen=True)
class YamlPlace:
    """A value of a file and where it stands."""

    node: Any
    file: str
    field: str

    def wrong(self, what: str, hint: str = "Mend this field; CONTRIBUTING.md shows a whole lesson.") -> BadLesson:
        """An error that names file, line and field."""
        line = self.node.start_mark.line + 1
        return BadLesson(f"{self.file}, line {line}, {self.field}: {what}", hint)

    def text(self) -> str:
        """A text, not empty."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != "tag:yaml.org,2002:str" or not self.node.value.strip():
            raise self.wrong("needs a text.", "Write a sentence; one that holds a colon or begins with a sign goes between quotes.")
        return " ".join(str(self.node.value).split())

    def prose(self) -> str:
        """A text that a learner reads: of at most `MOST_WORDS` words, and each fact that it names in braces exists."""
        told = self.text()
        if (n := len(told.split())) > MOST_WORDS:
            raise self.wrong(f"has {n} words; a text of a step has at most {MOST_WORDS}.", "Shorten it, or make two steps of it.")
        for name in PLACE.findall(told):
            self.reading(name)
        return told

    def whole(self) -> int:
        """A whole number above 0."""
        if not isinstance(self.node, yaml.ScalarNode) or not re.fullmatch("[0-9]{1,3}", str(self.node.value)) or not int(self.node.value):
            raise self.wrong("needs a whole number from 1 to 999.")
        return int(self.node.value)

    def plain(self) -> Any:
        """Any plain value: of a control or a knob."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self.node, deep=True)
        # The loader lets through what its parts raise: month 13 of a date, `!!int x`, `!!bool x`, `!!timestamp x`.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            told = " ".join(str(error).split())
            raise self.wrong(f"is no plain value: {told}.", "Put a text between quotes.") from error

    def reading(self, told: str) -> FactRef:
        """A fact that exists."""
        match = READING.fullmatch(told.strip())
        if match is None or match[1] not in FACTS:
            near = get_close_matches(told.partition("(")[0], FACTS, n=1)
            listed = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(FACTS))}."
            raise self.wrong(f"there is no fact {told.strip()!r}.", listed)
        return FactRef(match[1], match[2] or "")

    def condition(self) -> Claim:
        """`FACT OPERATOR VALUE`; a value in braces is another fact."""
        match = _CONDITION.fullmatch(self.text())
        if match is None:
            raise self.wrong("is no condition.", "Write a fact, one of >= <= > < = has, and a value: heads.score(induction) >= 0.5")
        reading, value = self.reading(match[1]), match[5].strip()
        braced = PLACE.fullmatch(value)
        if braced:
            return Claim(reading, _operator(match[4]), self.reading(braced[1]))
        number = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value)
        if match[4] in (">=", "<=", ">", "<") and number is None:
            raise self.wrong(f"{match[4]} needs a number, not {value!r}.")
        return Claim(reading, _operator(match[4]), float(value) if number else value)

    def each(self, read: Callable[[YamlPlace], Item]) -> tuple[Item, ...]:
        """What `read` makes of every item of a list."""
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.wrong("needs a list of at least one.", "Begin each item on a line of its own with a dash.")
        return tuple(read(YamlPlace(item, self.file, f"{self.field}[{i + 1}]")) for i, item in enumerate(self.node.value))

    def parts(self, needed: Iterable[str], other: Iterable[str] = ()) -> Mapping[str, YamlPlace]:
        """The fields of a mapping: all that are needed, none that is unknown, each once."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"needs fields: {', '.join(needed)}.")
        found: dict[str, YamlPlace] = {}
        known = [*needed, *other]
        for key, value in self.node.value:
            name, at = str(key.value), YamlPlace(key, self.file, self.field)
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise at.wrong(f"knows no field {name!r}.", f"Did you mean {near[0]!r}?" if near else f"Fields: {', '.join(known)}.")
            if name in found:
                raise at.wrong(f"has the field {name!r} twice.", "Keep one of them.")
            found[name] = YamlPlace(value, self.file, f"{self.field}.{name}" if self.field else name)
        if absent := [name for name in needed if name not in found]:
            raise self.wrong(f"lacks {', '.join(absent)}.", "Add what is lacking; CONTRIBUTING.md shows a whole lesson.")
        return found

    def values(self) -> dict[str, Any]:
        """A mapping of names to plain values."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong("needs names with values.")
        return {str(key.value): YamlPlace(value, self.file, f"{self.field}.{key.value}").plain() for key, value in self.node.value}


def read_lesson(text: str, file: str) -> Lesson:
    """A lesson from the text of a file.

    Raises:
        BadLesson: it is no YAML, or a field is missing, unknown, or of another kind; file, line and field are named.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        raise BadLesson(
            f"{file}{at} is no YAML: {getattr(error, 'problem', error)}.", "Mend the line; quotes help where a colon is."
        ) from error
    except RecursionError as error:
        raise BadLesson(f"{file} is nested too deeply to be read.", "A lesson nests a handful of levels; look for brackets.") from error
    if node is None:
        raise BadLesson(f"{file} is empty.", "Write a lesson, or remove the file.")
    return _lesson(YamlPlace(node, file, ""))


def _operator(text: str) -> Any:
    return text


def _lesson(at: YamlPlace) -> Lesson:
    parts = at.parts(("id", "title", "minutes", "about", "can", "steps"), ("model", "real", "only"))
    name = parts["id"].text()
    if not _ID.fullmatch(name):
        raise parts["id"].wrong(f"{name!r} is no id.", "Use small letters, digits and dashes, a letter first.")
    steps = parts["steps"].each(_step)
    if "real" not in parts and any(step.real is not None for step in steps):
        raise at.wrong("lacks real, and a step has it.", "Name the models that the real steps are for: real: [smollm2-135m]")
    if "real" in parts and "only" in parts:
        raise parts["only"].wrong("says that it is done on one model alone, and real names others.", "Leave one of both out.")
    return Lesson(
        name, parts["title"].text(), parts["minutes"].whole(), parts["about"].prose(), parts["can"].prose(), steps,
        parts["model"].text() if "model" in parts else "embedded",
        parts["real"].each(YamlPlace.text) if "real" in parts else (),
        parts["only"].prose() if "only" in parts else "",
    )  # fmt: skip


def _step(at: YamlPlace) -> LessonStep:
    parts = at.parts(_NEEDED, (*_OTHER, "real"))
    step = _one_step(parts)
    if "real" not in parts:
        return step
    own = parts["real"].parts((), (*_NEEDED, *_OTHER))
    kept = {name: part for name, part in parts.items() if name != "shown" or "start" not in own}
    return replace(step, real=_one_step({**kept, **own}))


def _one_step(parts: Mapping[str, YamlPlace]) -> LessonStep:
    hints = parts["hints"].each(YamlPlace.prose)
    if len(hints) != 2:
        raise parts["hints"].wrong(f"has {len(hints)} hints.", "Write two, a nudge and a suggestion; the third is *show me*, by `press`.")
    return LessonStep(
        parts["task"].prose(), parts["idea"].prose(), _start(parts["start"]), parts["check"].each(YamlPlace.condition),
        (hints[0], hints[1]), parts["press"].each(YamlPlace.text),
        _question(parts["question"]) if "question" in parts else None,
        parts["explains"].each(YamlPlace.text) if "explains" in parts else (),
        parts["saw"].prose() if "saw" in parts else "",
        _start(parts["shown"]) if "shown" in parts else None,
    )  # fmt: skip


def _start(at: YamlPlace) -> StepStart:
    parts = at.parts(("page",), ("set", "method", "knobs", "controls"))
    if (page := parts["page"].text()) not in PAGES:
        raise parts["page"].wrong(f"there is no page {page!r}.", f"Pages: {', '.join(PAGES)}.")
    chosen, method = (parts[name].text() if name in parts else "" for name in ("set", "method"))
    knobs, controls = (parts[name].values() if name in parts else {} for name in ("knobs", "controls"))
    if STATE in controls:
        raise parts["controls"].wrong(f"{STATE!r} is no control: what a tab knows lies there.", "Name a control of the page by its key.")
    return StepStart(page, chosen, method, knobs, controls)


def _question(at: YamlPlace) -> Question:
    parts = at.parts(("ask", "answers"))
    answers = parts["answers"].each(_answer)
    if len(answers) < 2:
        raise parts["answers"].wrong("has one answer.", "Offer at least two, one of them right.")
    if not any(answer.right for answer in answers):
        raise parts["answers"].wrong("has no right answer.", "Give one of them `right: true`, or `if:` with a condition.")
    return Question(parts["ask"].prose(), answers)


def _answer(at: YamlPlace) -> AnswerOption:
    parts = at.parts(("say", "reply"), ("right", "if"))
    right: Any = parts["right"].plain() if "right" in parts else False
    if not isinstance(right, bool):
        raise parts["right"].wrong(f"is {right!r}; true or false is needed.", "Write `right: true`, or leave the line out.")
    return AnswerOption(parts["say"].prose(), parts["reply"].prose(), parts["if"].condition() if "if" in parts else right)
