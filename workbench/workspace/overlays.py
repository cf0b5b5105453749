"""Two runs in one picture: what both measured or drew, from what their records hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from workbench.workspace.runs import Run


@final
@dataclass(frozen=True)
class LaneScore:
    """A lane's value in run 0 or 1, with its 95 % interval (None: withheld) and the items that it is over."""

    run: int
    lane: str
    value: float
    low: float | None
    high: float | None
    n: int


@final
@dataclass(frozen=True)
class Trace:
    """A curve of run 0 or 1."""

    run: int
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@final
@dataclass(frozen=True)
class Overlay:
    """A picture that both runs have: values with intervals, or curves."""

    title: str
    x_label: str
    y_label: str = ""
    points: tuple[LaneScore, ...] = ()
    traces: tuple[Trace, ...] = ()


def overlays(one: Run, other: Run) -> tuple[Overlay, ...]:
    """Every picture that two runs of one kind both have: scores of evaluations, doses of sweeps, curves of fits; else none."""
    if one.kind != other.kind or one.kind not in _READ:
        return ()
    mine, theirs = (_READ[run.kind](run, at) for at, run in enumerate((one, other)))
    return tuple(
        Overlay(first.title, first.x_label, first.y_label, (*first.points, *second.points), (*first.traces, *second.traces))
        for name, first in mine.items()
        if (second := theirs.get(name)) is not None
    )


def _scores(run: Run, at: int) -> dict[str, Overlay]:
    rows: Sequence[Mapping[str, Any]] = run.outputs.get("rows", ())
    found: dict[str, Overlay] = {}
    for name in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == name and row["value"] is not None]
        points = tuple(LaneScore(at, row["lane"], row["value"], row["low"], row["high"], row["n"]) for row in mine)
        if points:
            found[name] = Overlay(_words(name), mine[0]["unit"] or "share", points=points)
    return found


def _doses(run: Run, at: int) -> dict[str, Overlay]:
    doses = tuple(map(float, run.inputs.get("doses", ())))
    return {
        name: Overlay(_words(name), "dose (1 is as fitted)", _words(name), traces=(Trace(at, run.title, doses, tuple(values)),))
        for name, values in run.metrics.items()
        if len(values) == len(doses) and None not in values
    }


def _curves(run: Run, at: int) -> dict[str, Overlay]:
    return {
        told["name"]: Overlay(
            _words(told["name"]), told["x_label"], told["y_label"], traces=(Trace(at, run.title, tuple(told["x"]), tuple(told["y"])),)
        )
        for told in run.outputs.get("curves", ())
        if told["x"] and None not in (*told["x"], *told["y"])
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


_READ = {"evaluate": _scores, "sweep": _doses, "fit": _curves}
