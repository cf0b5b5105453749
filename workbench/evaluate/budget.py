"""How many rows and neutral texts can be measured within a time, drawn in one fixed random order.

A look at a few rows says what one costs; the number of rows follows from the clock alone, never from what was found. They are judged once,
when all of them are measured: a verdict that were told again and again while rows come in would be a sequential test, whose chance of a
false "does it" grows with every look. A smaller number is a part of a larger one, and no biased one: the order is not the set's.
Ref: docs/methods/shared.md §9.5; Armitage, McPherson and Rowe 1969 (repeated significance tests on accumulating data).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.data.demonstrations import Demonstrations

PROBED_ROWS, PROBED_TEXTS = 4, 2
LEAST_ROWS, LEAST_TEXTS = 8, 4
"""Fewer are not worth a look: no interval can be told of them."""
SHARE_OF_ROWS = 0.6
"""Of the time; the rest is for neutral text."""


@dataclass(frozen=True)
class Budget:
    """Rows and texts at most; None: all."""

    rows: int | None = None
    texts: int | None = None


def drawn(rows: Demonstrations, most: int | None) -> Demonstrations:
    """The first `most` rows of a fixed random order, in their own order; None: all."""
    if most is None or len(rows) <= most:
        return rows
    picked = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
    return rows.with_rows(rows[int(at)] for at in picked)


def budget(
    seconds: float,
    measure_rows: Callable[[int], object],
    measure_texts: Callable[[int], object] | None,
    clock: Callable[[], float] = time.perf_counter,
) -> Budget:
    """How many rows and texts fit into some seconds, after a first look at a few of each, which counts.

    Args:
        measure_rows, measure_texts: measure so many, as all of them will be; no texts: None.
    """
    began = clock()
    measure_rows(PROBED_ROWS)
    per_row = (clock() - began) / PROBED_ROWS
    middle = clock()
    if measure_texts is not None:
        measure_texts(PROBED_TEXTS)
    per_text = (clock() - middle) / PROBED_TEXTS
    left = max(0.0, seconds - (clock() - began))
    share = SHARE_OF_ROWS if measure_texts is not None else 1.0
    n_rows = max(LEAST_ROWS, int(share * left / max(per_row, 1e-9)))
    n_texts = None if measure_texts is None else max(LEAST_TEXTS, int((1 - share) * left / max(per_text, 1e-9)))
    return Budget(n_rows, n_texts)
