"""Fronts of two objectives that both are to be large: which points no other one beats, and how much they cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.shapes import Bool, Float


def on_front(points: Float[np.ndarray, "point two"]) -> Bool[np.ndarray, " point"]:
    """Whether no other point is as good in both objectives and better in one; equal points stand together, NaN is never on a front."""
    known = np.isfinite(points).all(axis=1)
    found = np.zeros(len(points), dtype=bool)
    for at in np.flatnonzero(known):
        ahead = points[known] - points[at]
        found[at] = not ((ahead >= 0).all(axis=1) & (ahead > 0).any(axis=1)).any()
    return found


def hypervolume(points: Float[np.ndarray, "point two"], reference: Sequence[float]) -> float:
    """The area between the points' front and a reference point; what is not better than it in both covers nothing."""
    above = points[np.isfinite(points).all(1) & (points > np.asarray(reference)).all(1)]
    area, reached = 0.0, reference[1]
    for x, y in above[np.lexsort((-above[:, 1], -above[:, 0]))]:
        if y > reached:
            area += float((x - reference[0]) * (y - reached))
            reached = float(y)
    return area
