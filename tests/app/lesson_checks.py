"""Whether something that was done passes a step of a lesson that ships."""

from __future__ import annotations

from typing import Any

from workbench.lessons.attempt import Attempt
from workbench.lessons.course import course
from workbench.lessons.facts import met

LESSONS = course().lessons


def passes(
    lesson: str,
    step: int,
    scope: tuple[str, ...] = (),
    edits: frozenset[str] = frozenset(),
    asked: Any = None,
    on: str = "embedded",
    **results: Any,
) -> bool:
    """Whether results pass a step of a lesson, as it is done on a model."""
    found = {name.replace("_", "-") if name in ("equal_damage", "dose_plane") else name: value for name, value in results.items()}
    check = LESSONS[lesson].on(on).steps[step - 1].check
    return met(Attempt(found, {} if asked is None else dict.fromkeys(found, asked), found, scope, edits), check)
