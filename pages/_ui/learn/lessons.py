"""Lessons: units of JSON with a task, a ladder of hints, and a check over what was really run in this tab."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pages._ui.kit import jobs, scope
from workbench.resources import LESSONS


def lessons() -> tuple[Mapping[str, Any], ...]:
    """The lessons that ship, by file name."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted(LESSONS.glob("*.json")))


def passed(check: Mapping[str, Any]) -> bool:
    """Whether a check holds for this tab's own results; a check of an unknown kind never does."""
    return CHECKS.get(check["kind"], lambda _: False)(check)


def _with_config(check: Mapping[str, Any]) -> Any | None:
    """The tab's last fit, if its config is the one that the check wants."""
    outcome = jobs.result("fit")
    if outcome is None:
        return None
    config = outcome.fitted.edit.header.config
    return outcome if all(config.get(name) == value for name, value in check.get("config", {}).items()) else None


def _fitted(check: Mapping[str, Any]) -> bool:
    outcome = _with_config(check)
    return outcome is not None and outcome.method == check["method"]


def _beats_placebo(check: Mapping[str, Any]) -> bool:
    outcome = jobs.result("fit")
    return outcome is not None and outcome.evaluation is not None and outcome.evaluation.verdict.beats_placebo


def _scalar(check: Mapping[str, Any]) -> bool:
    outcome = _with_config(check)
    value = None if outcome is None else outcome.fitted.report.scalars.get(check["name"])
    return value is not None and check.get("at_least", value) <= value <= check.get("at_most", value)


def _first_share(check: Mapping[str, Any]) -> bool:
    """In some layer the first direction of the good side holds so much of the squares."""
    outcome = _with_config(check)
    arrays = {} if outcome is None else outcome.fitted.report.arrays
    shares = [float(values[0]) for name, values in arrays.items() if name.startswith("cumulative_plus[")]
    return bool(shares) and max(shares) >= check["at_least"]


def _compared(check: Mapping[str, Any]) -> bool:
    found = jobs.result("compare")
    return found is not None and len(found.lanes) >= check["lanes"]


def _attention(check: Mapping[str, Any]) -> bool:
    return jobs.result("attention") is not None


def _scored(check: Mapping[str, Any]) -> bool:
    """The best head of a kind looks where the kind looks so many times as much as even attention does."""
    found = jobs.result("heads")
    if found is None:
        return False
    even = float(found.chance[found.kinds.index(check["head"])])
    return found.top(check["head"], 1)[0][2] >= check["times_even"] * even


def _scope(check: Mapping[str, Any]) -> bool:
    """So many heads are in the scope; with a kind, one whose score is near the best head's."""
    heads = [name for name in scope.picked() if "." in name]
    if "head" not in check:
        return len(heads) >= check["heads"]
    found = jobs.result("heads")
    if found is None:
        return False
    wanted = check["share_of_best"] * found.top(check["head"], 1)[0][2]
    scores = found.scores[0, found.kinds.index(check["head"])]
    pairs = [tuple(int(part) for part in name.split(".")) for name in heads]
    return any(scores[layer, head] >= wanted for layer, head in pairs if layer < scores.shape[0] and head < scores.shape[1])


def _patched(check: Mapping[str, Any]) -> bool:
    found = jobs.result("patching")
    return found is not None and float(found.heads[0].max()) >= check["at_least"]


def _traced(check: Mapping[str, Any]) -> bool:
    found = jobs.result("circuit")
    return found is not None and found.recovered >= check["at_least"]


CHECKS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
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
