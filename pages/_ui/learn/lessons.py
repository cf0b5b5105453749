"""Lessons: units of JSON with a task, a ladder of hints, and a check over what was really run in this tab."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

from pages._ui.compare.running import COMPARE
from pages._ui.edit.fitting import FIT, FitOutcome
from pages._ui.inspect.heads import HEADS
from pages._ui.inspect.lenses import ATTENTION
from pages._ui.inspect.patching import CIRCUIT, PATCHING
from pages._ui.kit import jobs, scope
from workbench.resources import LESSONS

NOTHING: Mapping[str, object] = MappingProxyType({})


class Step(TypedDict):
    """One task: the page it is done on, what is filled in there, its ladder of hints, and its check (a kind of `CHECKS` with arguments)."""

    task: str
    page: str
    hints: Sequence[str]
    check: Mapping[str, Any]
    set: NotRequired[str]
    method: NotRequired[str]
    prompt: NotRequired[str]
    example: NotRequired[str]
    lens: NotRequired[str]


class Lesson(TypedDict):
    """A unit: what it is about, in so many minutes, and its steps."""

    id: str
    title: str
    minutes: int
    concept: str
    steps: Sequence[Step]


def lessons() -> tuple[Lesson, ...]:
    """The lessons that ship, by file name."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted(LESSONS.glob("*.json")))


def passed(check: Mapping[str, Any]) -> bool:
    """Whether a check holds for this tab's own results; a check of an unknown kind never does."""
    kind = CHECKS.get(check["kind"])
    return kind is not None and kind(**{name: value for name, value in check.items() if name != "kind"})


def _with_config(config: Mapping[str, object]) -> FitOutcome | None:
    """The tab's last fit, if its config is the one that the check wants."""
    outcome = jobs.result(FIT)
    if outcome is None:
        return None
    fitted = outcome.fitted.edit.header.config
    return outcome if all(fitted.get(name) == value for name, value in config.items()) else None


def _fitted(method: str, config: Mapping[str, object] = NOTHING) -> bool:
    outcome = _with_config(config)
    return outcome is not None and outcome.settings.method == method


def _beats_placebo() -> bool:
    outcome = jobs.result(FIT)
    return outcome is not None and outcome.evaluation is not None and outcome.evaluation.verdict.beats_placebo


def _scalar(name: str, at_least: float = -math.inf, at_most: float = math.inf, config: Mapping[str, object] = NOTHING) -> bool:
    outcome = _with_config(config)
    value = None if outcome is None else outcome.fitted.report.scalars.get(name)
    return value is not None and at_least <= value <= at_most


def _first_share(at_least: float, config: Mapping[str, object] = NOTHING) -> bool:
    """In some layer the first direction of the good side holds so much of the squares."""
    outcome = _with_config(config)
    arrays = {} if outcome is None else outcome.fitted.report.arrays
    shares = [float(values[0]) for name, values in arrays.items() if name.startswith("cumulative_plus[")]
    return bool(shares) and max(shares) >= at_least


def _compared(lanes: int) -> bool:
    found = jobs.result(COMPARE)
    return found is not None and len(found.lanes) >= lanes


def _attention() -> bool:
    return jobs.result(ATTENTION) is not None


def _scored(head: str, times_even: float) -> bool:
    """The best head of a kind looks where the kind looks so many times as much as even attention does."""
    found = jobs.result(HEADS)
    return found is not None and found.top(head, 1)[0][2] >= times_even * float(found.chance[found.kinds.index(head)])


def _scope(heads: int = 1, head: str = "", share_of_best: float = 1.0) -> bool:
    """So many heads are in the scope; with a kind, one whose score is near the best head's."""
    names = [name for name in scope.picked() if "." in name]
    if not head:
        return len(names) >= heads
    found = jobs.result(HEADS)
    if found is None:
        return False
    wanted = share_of_best * found.top(head, 1)[0][2]
    scores = found.scores[0, found.kinds.index(head)]
    pairs = [tuple(map(int, name.split("."))) for name in names]
    return any(scores[i, j] >= wanted for i, j in pairs if i < scores.shape[0] and j < scores.shape[1])


def _patched(at_least: float) -> bool:
    found = jobs.result(PATCHING)
    return found is not None and float(found.heads[0].max()) >= at_least


def _traced(at_least: float) -> bool:
    found = jobs.result(CIRCUIT)
    return found is not None and found.recovered >= at_least


CHECKS: Mapping[str, Callable[..., bool]] = {
    "fitted": _fitted,
    "beats_placebo": _beats_placebo,
    "scalar": _scalar,
    "first_share": _first_share,
    "compared": _compared,
    "attention": _attention,
    "scored": _scored,
    "scope": _scope,
    "patched": _patched,
    "traced": _traced,
}
