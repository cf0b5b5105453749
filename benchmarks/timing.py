"""Times as ratios: what two pieces of work cost against each other, on whatever machine runs them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def paired(first: Callable[[], None], second: Callable[[], None], rounds: int) -> dict[str, float]:
    """Median of time(first) / time(second), run in turn so that drift of the machine hits both."""
    first(), second()
    ratios: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        first()
        middle = time.perf_counter()
        second()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "rounds": rounds}


def void(_: object) -> None:
    """Drop a result."""
