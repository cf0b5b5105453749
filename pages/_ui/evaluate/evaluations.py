"""An evaluation on a page: the verdict, intervals of every metric beside the placebo, the table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.evaluate.rows import draw_rows
from pages._ui.kit import words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.glossary import tip
from workbench.figures.basic import IntervalBar, intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.edits.labels import LaneLabel
    from workbench.evaluate.benefit import Benefit
    from workbench.evaluate.dose import CoherentDose, DoseSweep
    from workbench.evaluate.evaluation import Evaluation
    from workbench.evaluate.metrics import Metric
    from workbench.evaluate.side_effects import SideEffects
    from workbench.figures.basic import Line
    from workbench.numerics.intervals import Interval

_SHOWN = 28
"""Characters of a lane's name that a picture shows; its letter tells which it is."""


def draw_verdict(found: Evaluation, *, key: str, title: str, seed: int | None = None) -> None:
    """The sentence that a person can repeat, the numbers under it, and one picture: base, edit and placebo on the first metric."""
    import streamlit as st

    meaning(words.markdown(found.verdict.sentence), key)
    for i, told in enumerate(found.rivals):
        meaning(words.markdown(told), f"{key}-rival-{i}")
    if found.verdict.detail:
        st.caption(words.markdown(found.verdict.detail), help=tip(found.verdict.detail))
    _draw_notes(found)
    if found.benefit.metrics:
        _metric(found.benefit, found.benefit.metrics[0], key=f"{key}-first", title=title, seed=seed)
    draw_rows(found.benefit, key=key)


def _draw_notes(found: Evaluation | DoseSweep) -> None:
    """What to know before the numbers are compared."""
    for note in found.notes:
        st.caption(f":material/info: {words.plain(note)}")


def draw_all(found: Evaluation, *, key: str, seed: int | None = None) -> None:
    """Every metric of gain and damage as one table, and a picture each of the chosen one."""
    metrics: dict[str, tuple[Benefit | SideEffects, Metric]] = {metric.title: (found.benefit, metric) for metric in found.benefit.metrics}
    if found.side_effects is not None:
        metrics |= {metric.title: (found.side_effects, metric) for metric in found.side_effects.metrics}
    table_panel(
        [row for record, metric in metrics.values() for row in _table(record, metric)], _caption(found.benefit, seed), key=f"{key}-all"
    )
    title = st.selectbox("Picture of", list(metrics), key=f"{key}-metric")
    _metric(*metrics[title], key=f"{key}-one", title=title, seed=seed)


def _metric(record: Benefit | SideEffects, metric: Metric, *, key: str, title: str, seed: int | None) -> None:
    rows, lane, names = list[IntervalBar](), 0, _names(record.lanes)
    for label, value in zip(record.lanes, metric.values):
        finite = not math.isnan(value.low)
        low, high = (value.low, value.high) if finite else (value.estimate, value.estimate)
        rows.append(IntervalBar(names[label.label], value.estimate, low, high, value.n, None if label.control else lane))
        lane += not label.control
    span = (0.0, 1.0) if all(0 <= v.estimate <= 1 and not metric.unit for v in metric.values) and metric.link == "identity" else None
    figure = intervals(title, rows, metric.title + (f" ({metric.unit})" if metric.unit else "") + _better(metric), span=span)
    figure_panel(
        figure, _table(record, metric), _caption(record, seed), key=key,
        look_for="The dot is the estimate, the bar its 95 % interval. The edit should leave the base's bar; the placebo should not.",
    )  # fmt: skip


def _table(record: Benefit | SideEffects, metric: Metric) -> list[dict[str, Any]]:
    return [
        {
            "metric": metric.title,
            "lane": lane.label,
            "value": round(value.estimate, 4),
            "95 % low": _finite(value.low),
            "95 % high": _finite(value.high),
            "change to base": None if change is None else change.words,
            "n": value.n,
            "unit": metric.unit or "share" if metric.link == "identity" else "ratio",
        }
        for lane, value, change in zip(record.lanes, metric.values, metric.changes)
    ]


def _caption(record: Benefit | SideEffects, seed: int | None) -> str:
    from workbench.evaluate.benefit import Benefit

    edits = ", ".join(dict.fromkeys(edit[:6] for lane in record.lanes for edit in lane.edit_ids if not lane.control))
    told = {"model": record.model, "edit": edits, "seed": seed}
    if isinstance(record, Benefit):
        return words.provenance(**told, data=record.data, n=record.n, split=record.split, left=record.why)
    return words.provenance(**told, data="neutral text", n=record.n_texts)


def _names(lanes: Sequence[LaneLabel]) -> dict[str, str]:
    """What a picture calls each lane: its letter and label; of several controls of a kind each has the letter of its lane."""
    own = [lane.label for lane in lanes if not lane.control]
    letters = {label: "ABCDE"[(lane - 1) % 5] for lane, label in enumerate(own) if lane}
    names = {label: _lane_name(label, lane) for lane, label in enumerate(own)}
    controls = {lane.label: lane.label.partition(" of ") for lane in lanes if lane.control}
    kinds = [kind for kind, _, _ in controls.values()]
    return names | {label: kind if kinds.count(kind) == 1 else f"{kind} {letters[of]}" for label, (kind, _, of) in controls.items()}


def _lane_name(label: str, lane: int) -> str:
    shown = label if len(label) <= _SHOWN else label[: _SHOWN - 1] + "…"
    return "· base" if lane == 0 else f"{'ABCDE'[(lane - 1) % 5]} {shown}"


def _better(metric: Metric) -> str:
    return {"higher": ", more is better", "lower": ", less is better"}.get(metric.better, "")


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def draw_sweep(found: DoseSweep) -> None:
    """Effect and damage over the dose, each beside the placebo."""
    from workbench.figures.basic import Line, dose_strip

    _draw_notes(found)
    effect = found.metrics[0]
    damage = next((metric for metric in found.metrics if "kl" in metric.name.lower()), found.metrics[-1])

    def parts(metric: Metric) -> list[Line]:
        mine = [Line(f"A {found.edit.split(' × ')[0]}", found.doses, [value.estimate for value in metric.values], 1)]
        turned = next((item for item in found.placebo if item.name == metric.name), None)
        mine += [] if turned is None else [Line("placebo", found.doses, [value.estimate for value in turned.values], None)]
        beside = next((item.values[1:] for item in found.beside_metrics if item.name == metric.name), ())
        ends = (found.doses[0], found.doses[-1])
        return mine + [
            Line(_lane_name(lane.label, i), ends, [value.estimate] * 2, i) for i, (lane, value) in enumerate(zip(found.beside, beside), 2)
        ]

    above, below = (metric.title + (f" ({metric.unit})" if metric.unit else "") for metric in (effect, damage))
    rows = [
        {
            "lane": lane,
            "dose": dose,
            "metric": metric.title,
            "value": value.estimate,
            "95 % low": _finite(value.low),
            "95 % high": _finite(value.high),
            "n": value.n,
        }
        for lane, dose, metric, value in _swept_values(found)
    ]
    caption = words.provenance(model=found.model, edit=found.edit_id[:6], data=found.data, n=effect.n, split=found.split, left=found.why)
    figure = dose_strip("Effect and damage over the dose", parts(effect), parts(damage), above, below)
    figure_panel(
        figure, rows, caption, key="sweep",
        look_for="The widest band of doses where the upper line is high and the lower one flat. The placebo shows what size alone does.",
    )  # fmt: skip


def _swept_values(found: DoseSweep) -> list[tuple[str, float | None, Metric, Interval]]:
    """Lane, dose, metric and value of each table row; a lane beside stands at its own dose."""
    mine = [(found.edit, dose, metric, value) for metric in found.metrics for dose, value in zip(found.doses, metric.values)]
    pairs = [(lane.label, metric, value) for metric in found.beside_metrics for lane, value in zip(found.beside, metric.values[1:])]
    return [*mine, *((label, None, metric, value) for label, metric, value in pairs)]


def draw_coherent(found: CoherentDose) -> None:
    """The largest dose within limits, in words."""
    limits = f"KL up to {found.limits.kl_nats:g} nats, perplexity up to ×{found.limits.perplexity_ratio:g}"
    bound = "" if found.is_bounded else " It is the largest that was tried."
    meaning(f"It stays coherent up to dose **{found.dose:.2f}** ({limits}; n={found.n_texts} neutral texts).{bound}", "coherent")
