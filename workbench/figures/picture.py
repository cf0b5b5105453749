"""A figure with the words and numbers that belong to it, and who draws what: a kind of report is known by the arrays that it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go

from workbench.methods.registry import FitReport
from workbench.progress import Report

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Picture:
    """One figure.

    `says` is the takeaway in one sentence, `look_for` tells somebody who sees such a figure for the first time where to look, `rows` are
    the numbers behind it, `name` is a slug for keys and file names.
    """

    name: str
    figure: go.Figure
    rows: Sequence[Mapping[str, Any]]
    says: str = ""
    look_for: str = ""


DrawPictures = Callable[[FitReport], Sequence[Picture]]
Move = Callable[[Sequence[Report]], Sequence[Picture]]
DrawT = TypeVar("DrawT", bound=DrawPictures)
MoveT = TypeVar("MoveT", bound=Move)
_DRAWN: list[tuple[frozenset[str], DrawPictures]] = []
_MOVING: list[tuple[frozenset[str], Move]] = []


def pictures_of(*arrays: str) -> Callable[[DrawT], DrawT]:
    """Register what draws every report that carries these arrays, whichever method made it."""

    def register(draw: DrawT) -> DrawT:
        _DRAWN.append((frozenset(arrays), draw))
        return draw

    return register


def moving_pictures_of(*values: str) -> Callable[[MoveT], MoveT]:
    """Register what draws a running fit that has reported all of these live values."""

    def register(draw: MoveT) -> MoveT:
        _MOVING.append((frozenset(values), draw))
        return draw

    return register


def drawn_pictures(report: FitReport) -> tuple[Picture, ...]:
    """The pictures of all the kinds that a report is of."""
    return tuple(picture for needs, draw in _DRAWN if needs <= set(report.arrays) for picture in draw(report))


def drawn_moving(history: Sequence[Report]) -> tuple[Picture, ...]:
    """The moving pictures of all the kinds that a running fit is of."""
    told = {name for report in history for name in report.live}
    return tuple(picture for needs, draw in _MOVING if needs <= told for picture in draw(history))
