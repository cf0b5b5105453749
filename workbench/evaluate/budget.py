"""How many rows and neutral texts can be measured within a time, drawn in one fixed random order.

A look at a few rows says what a character costs; the number of rows follows from the clock and their lengths alone, never from what was
found. They are judged once,
when all of them are measured: a verdict that were told again and again while rows come in would be a sequential test, whose chance of a
false "does it" grows with every look. A smaller number is a part of a larger one, and no biased one: the order is not the set's.
Ref: docs/methods/shared.md §9.5; Armitage, McPherson and Rowe 1969 (repeated significance tests on accumulating data).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.shapes import Int

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
    return rows.with_rows(rows[int(at)] for at in np.sort(_order(rows)[:most]))


def sizes_in_order(rows: Demonstrations, size: Callable[[Demonstration], float]) -> list[float]:
    """The size of each row, in the order in which rows are drawn."""
    return [size(rows[int(at)]) for at in _order(rows)]


def _order(rows: Demonstrations) -> Int[np.ndarray, " row"]:
    return np.random.default_rng(0).permutation(len(rows))


def budget(
    seconds: float,
    measure_rows: Callable[[int], object],
    row_sizes: Sequence[float],
    measure_texts: Callable[[int], object] | None,
    text_sizes: Sequence[float] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Budget:
    """How many rows and texts fit into some seconds, after a first look at a few of each, which counts.

    Args:
        measure_rows, measure_texts: measure so many, as all of them will be; no texts: None.
        row_sizes, text_sizes: how much there is to read in each, in the order in which they are taken; its unit does not matter.
    """
    began = clock()
    measure_rows(PROBED_ROWS)
    rows_took, middle = clock() - began, clock()
    if measure_texts is not None:
        measure_texts(PROBED_TEXTS)
    texts_took = clock() - middle
    left = max(0.0, seconds - (clock() - began))
    share = SHARE_OF_ROWS if measure_texts is not None else 1.0
    n_rows = max(LEAST_ROWS, _fitting(share * left, rows_took, PROBED_ROWS, row_sizes))
    if measure_texts is None:
        return Budget(n_rows, None)
    return Budget(n_rows, max(LEAST_TEXTS, _fitting((1 - share) * left, texts_took, PROBED_TEXTS, text_sizes)))


def _fitting(seconds: float, took: float, probed: int, sizes: Sequence[float]) -> int:
    """How many of the first can be read in some seconds, the first `probed` of them having taken so long."""
    read = np.cumsum(np.asarray(sizes, dtype=float))
    if not len(read):
        return 0
    per_size = took / max(read[min(probed, len(read)) - 1], 1e-9)
    return int(np.searchsorted(read, seconds / max(per_size, 1e-12) * (1 + 1e-9), side="right"))
