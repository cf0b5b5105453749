"""What a method was found to do on a real model, good and bad: told where it is offered. Measured by `python -m benchmarks.real`."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from workbench.resources import FOUND


@cache
def found_by_battery() -> dict[str, Any]:
    """What the battery found last: the model, and by method the tasks by what was found on them."""
    return json.loads(FOUND.read_text(encoding="utf-8"))


def evidence(method: str) -> str:
    """Say on which tasks a method's defaults do what is asked and on which no effect was found; empty where nothing was measured."""
    found = found_by_battery()
    mine = found["methods"].get(method)
    if not mine:
        return ""
    return f"On {found['model']} with its defaults: {'; '.join(f'{what} on {_listed(tasks)}' for what, tasks in mine.items())}."


def _listed(tasks: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(tasks[:-1]), tasks[-1])))
