"""Fit reports as runs, and back: what a fit showed can be drawn again after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.methods.registry import Curve, FitReport, Fitted, Notice
from workbench.workspace.plain import plain
from workbench.workspace.runs import Run, Runs


def record_fit(runs: Runs, fitted: Fitted, *, demonstrations: str, n: int) -> Run:
    """Write a fit as a run of kind `fit`.

    Raises:
        StorageFailed: nothing was written.
    """
    head, report = fitted.edit.header, fitted.report
    inputs = {"method": head.method, "config": head.config, "demonstrations": demonstrations, "data": head.data, "n": n}
    outputs = {
        "edit": fitted.edit.id,
        "curves": plain(report.curves),
        "tables": plain(report.tables),
        "notices": plain(report.notices),
    }
    return runs.record(
        "fit",
        f"{head.method} on {demonstrations}",
        inputs=inputs,
        outputs=outputs,
        metrics=report.scalars,
        arrays=report.arrays,
        seed=head.seed,
        model=head.model.name,
    )


def report_of(run: Run, arrays: Mapping[str, np.ndarray]) -> FitReport:
    """The report that a run of kind `fit` holds. A scalar that was not finite comes back as NaN."""
    told: Mapping[str, Any] = run.outputs
    curves = tuple(
        Curve(curve["name"], _numbers(curve["x"]), _numbers(curve["y"]), curve["x_label"], curve["y_label"]) for curve in told["curves"]
    )
    return FitReport(
        scalars={name: _number(value) for name, value in run.metrics.items()},
        curves=curves,
        arrays=arrays,
        tables={name: tuple(rows) for name, rows in told["tables"].items()},
        notices=tuple(Notice(**notice) for notice in told["notices"]),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _numbers(values: list[float | None]) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)
