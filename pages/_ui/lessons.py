"""Lessons: units of JSON with a task, a ladder of hints, and a check over what was really run in this tab."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pages._ui import calls, evaluations, jobs

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "lessons"


def lessons() -> tuple[Mapping[str, Any], ...]:
    """The lessons that ship, by file name."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json")))


def passed(check: Mapping[str, Any]) -> bool:
    """Whether a check holds for this tab's own results; a check of an unknown kind never does."""
    return CHECKS.get(check["kind"], lambda _: False)(check)


def _fitted(check: Mapping[str, Any]) -> bool:
    outcome = jobs.result("fit")
    if outcome is None or outcome.method != check["method"]:
        return False
    config = outcome.fitted.edit.header.config
    return all(config.get(name) == value for name, value in check.get("config", {}).items())


def _beats_placebo(check: Mapping[str, Any]) -> bool:
    outcome = jobs.result("fit")
    return outcome is not None and outcome.evaluation is not None and evaluations.beats_placebo(outcome.evaluation)


def _scalar(check: Mapping[str, Any]) -> bool:
    outcome = jobs.result("fit")
    value = None if outcome is None else outcome.fitted.report.scalars.get(check["name"])
    return value is not None and check.get("at_least", value) <= value <= check.get("at_most", value)


def _compared(check: Mapping[str, Any]) -> bool:
    found = jobs.result("compare")
    return found is not None and len(found.lanes) >= check["lanes"]


def _attention(check: Mapping[str, Any]) -> bool:
    return jobs.result("attention") is not None


def _head(check: Mapping[str, Any]) -> bool:
    found = jobs.result("attention")
    if found is None:
        return False
    scores = calls.head_scores(found, 0).get(check["name"])
    return scores is not None and max(max(line) for line in scores[1]) >= check["at_least"]


CHECKS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "fitted": _fitted,
    "beats_placebo": _beats_placebo,
    "scalar": _scalar,
    "compared": _compared,
    "attention": _attention,
    "head": _head,
}
