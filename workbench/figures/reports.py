"""Pictures of a fit: those of the kind of its report, and for every report its curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.figures import adversary, gate, moves, running, spectra, turns
from workbench.figures.basic import Line, lines
from workbench.figures.picture import Picture, drawn_moving, drawn_pictures
from workbench.methods.registry import Curve, FitReport
from workbench.progress import Report

# Each of these modules registers what it draws.
PICTURED = (spectra, turns, adversary, gate, running, moves)


def report_pictures(report: FitReport) -> tuple[Picture, ...]:
    """The pictures of a report: those of its kind, then its curves."""
    return (*drawn_pictures(report), *curves(report.curves))


def curves(found: Sequence[Curve]) -> tuple[Picture, ...]:
    """One picture for all curves with the same axes."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in found:
        groups.setdefault((curve.x_label, curve.y_label), []).append(curve)
    made: list[Picture] = []
    for (x_label, y_label), group in groups.items():
        title = ", ".join(curve.name for curve in group)
        figure = lines(_sentence(title), [Line(c.name, c.x, c.y, 1 + i % 5) for i, c in enumerate(group)], x_label, y_label)
        rows = [{"curve": c.name, x_label: x, y_label: y} for c in group for x, y in zip(c.x, c.y)]
        made.append(Picture(f"curve-{len(made)}-{'-'.join(title.lower().split())[:40]}", figure, rows))
    return tuple(made)


def moving_pictures(history: Sequence[Report]) -> tuple[Picture, ...]:
    """What a running fit has shown so far: the pictures of its kind, else every number that it reports, over its reports."""
    own = drawn_moving(history)
    if own:
        return own
    series: dict[str, tuple[list[float], list[float]]] = {}
    for at, report in enumerate(history):
        for name, value in report.live.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(float(at))
                ys.append(float(value))
    shown = {name: parts for name, parts in series.items() if len(parts[0]) >= 2}
    return tuple(_moving(name, *parts) for name, parts in list(shown.items())[:3])


def _moving(name: str, x: list[float], y: list[float]) -> Picture:
    words = name.replace("_", " ")
    figure = lines(f"{_sentence(words)} so far", [Line(words, x, y)], "report", words, height=240)
    rows: list[dict[str, Any]] = [{"report": a, words: b} for a, b in zip(x, y)]
    return Picture(f"live-{name}", figure, rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
