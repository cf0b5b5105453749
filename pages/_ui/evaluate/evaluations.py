"""An evaluation on a page: the verdict in words, intervals of every metric beside the placebo, the table."""

from __future__ import annotations

import math
from typing import Any

from pages._ui.kit import words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.frame import meaning
from workbench.figures.basic import Interval, intervals

PLACEBO = "placebo"


def is_placebo(label: str) -> bool:
    """Whether a lane is a placebo, by its label."""
    return label.startswith(PLACEBO)


def verdict(found: Any) -> str:
    """What the first edit of an evaluation does, in words."""
    benefit = found.benefit
    if not benefit.metrics:
        return "Nothing on this set could be scored."
    metric, at = benefit.metrics[0], _edit_lane(benefit.lanes)
    base, mine, change = metric.values[0], metric.values[at], metric.changes[at]
    text = f"**{_short(mine)}** with the edit, **{_short(base)}** without: {metric.title}, {_rows(benefit)}. "
    text += _whether(metric, change)
    placebo = _placebo_lane(benefit.lanes)
    if placebo is not None:
        text += f" A random edit of equal size gives {_short(metric.values[placebo])}."
    return text + _cost(found, at) + _kept(found, at)


def _whether(metric: Any, change: Any) -> str:
    if change is None or not change.excludes_zero:
        return "The change is within chance."
    if metric.better == "neither":
        return "The change is beyond chance."
    is_better = (change.estimate > 0) == (metric.better == "higher")
    return "It does what was asked, beyond chance." if is_better else "It does the **opposite** of what was asked, beyond chance."


def _cost(found: Any, at: int) -> str:
    side = found.side_effects
    if side is None:
        return ""
    for metric in side.metrics:
        if "kl" in metric.name.lower():
            return f" On neutral text it moves the model by {words.number(metric.values[at].estimate)} {metric.unit or 'nats a token'}."
    return ""


def _kept(found: Any, at: int) -> str:
    """How likely a true answer is among everything that could be said, and what else the model still knows."""
    side = found.side_effects
    given = next((metric for metric in found.benefit.metrics if metric.name == "p_answer"), None)
    text = ""
    if given is not None:
        before, after = (words.number(given.values[lane].estimate) for lane in (0, at))
        text = f" A true answer gets {after} of all probability, {before} without."
    for metric in side.metrics if side is not None else ():
        if any(metric.name.startswith(f"{name}_") for name in side.capability):
            text += f" {metric.title}: {_short(metric.values[at])} with it, {_short(metric.values[0])} without, {metric.n} rows."
    return text


def draw_verdict(found: Any, *, key: str, title: str, seed: Any = None) -> None:
    """The sentence and one picture: base, edit and placebo on the first metric."""
    meaning(words.markdown(verdict(found)), key)
    if found.benefit.metrics:
        _metric(found.benefit, found.benefit.metrics[0], key=f"{key}-first", title=title, seed=seed)


def draw_all(found: Any, *, key: str, seed: Any = None) -> None:
    """Every metric of gain and damage as one table, and a picture each of the chosen one."""
    import streamlit as st

    metrics = {metric.title: (found.benefit, metric) for metric in found.benefit.metrics}
    if found.side_effects is not None:
        metrics |= {metric.title: (found.side_effects, metric) for metric in found.side_effects.metrics}
    table_panel(
        [row for record, metric in metrics.values() for row in _table(record, metric)], _caption(found.benefit, seed), key=f"{key}-all"
    )
    title = st.selectbox("Picture of", list(metrics), key=f"{key}-metric")
    if title is not None:
        record, metric = metrics[title]
        _metric(record, metric, key=f"{key}-one", title=title, seed=seed)


def _metric(record: Any, metric: Any, *, key: str, title: str, seed: Any) -> None:
    rows, lane = [], 0
    for label, value in zip(record.lanes, metric.values):
        placebo = is_placebo(label.label)
        finite = not math.isnan(value.low)
        low, high = (value.low, value.high) if finite else (value.estimate, value.estimate)
        rows.append(Interval(_lane_name(label.label, lane), value.estimate, low, high, value.n, None if placebo else lane))
        lane += not placebo
    span = (0.0, 1.0) if all(0 <= v.estimate <= 1 and not metric.unit for v in metric.values) and metric.link == "identity" else None
    figure = intervals(title, rows, metric.title + (f" ({metric.unit})" if metric.unit else "") + _better(metric), span=span)
    figure_panel(
        figure, _table(record, metric), _caption(record, seed), key=key,
        look_for="The dot is the estimate, the bar its 95 % interval. The edit should leave the base's bar; the placebo should not.",
    )  # fmt: skip


def _table(record: Any, metric: Any) -> list[dict[str, Any]]:
    return [
        {
            "metric": metric.title,
            "lane": lane.label,
            "value": round(value.estimate, 4),
            "95 % low": _finite(value.low),
            "95 % high": _finite(value.high),
            "change to base": None if change is None else str(change).split("  n=")[0],
            "n": value.n,
            "unit": metric.unit or "share" if metric.link == "identity" else "ratio",
        }
        for lane, value, change in zip(record.lanes, metric.values, metric.changes)
    ]


def _caption(record: Any, seed: Any) -> str:
    edits = ", ".join(edit[:6] for lane in record.lanes for edit in lane.edit_ids if not is_placebo(lane.label))
    data = getattr(record, "data", "") or "neutral text"
    n = getattr(record, "n", None) or getattr(record, "n_texts", None)
    return words.provenance(model=record.model, edit=edits, seed=seed, data=data, n=n, split=getattr(record, "split", None))


def _lane_name(label: str, lane: int) -> str:
    if lane == 0:
        return "· base"
    return "placebo" if is_placebo(label) else f"{'ABCDE'[(lane - 1) % 5]} {label}"


def _edit_lane(lanes: Any) -> int:
    return next((i for i, lane in enumerate(lanes) if lane.edit_ids and not is_placebo(lane.label)), 0)


def _placebo_lane(lanes: Any) -> int | None:
    return next((i for i, lane in enumerate(lanes) if is_placebo(lane.label)), None)


def _short(value: Any) -> str:
    return f"{value.estimate:.2f}" + ("" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]")


def _rows(benefit: Any) -> str:
    return f"{words.count(benefit.n, 'row')} of split {benefit.split}"


def _better(metric: Any) -> str:
    return {"higher": ", more is better", "lower": ", less is better"}.get(metric.better, "")


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def plain_verdict(found: Any | None) -> str:
    """The verdict without Markdown, for a list of edits."""
    return "" if found is None else verdict(found).replace("**", "")


def beats_placebo(found: Any) -> bool:
    """Whether the edit's interval on the first metric lies wholly on the wanted side of its placebo's estimate."""
    benefit = found.benefit
    at, placebo = _edit_lane(benefit.lanes), _placebo_lane(benefit.lanes)
    if not benefit.metrics or placebo is None:
        return False
    metric = benefit.metrics[0]
    mine, other = metric.values[at], metric.values[placebo].estimate
    return mine.high < other if metric.better == "lower" else mine.low > other


def draw_sweep(found: Any) -> None:
    """Effect and damage over the dose, each beside the placebo."""
    from workbench.figures.basic import Line, dose_strip

    effect = found.metrics[0]
    damage = next((metric for metric in found.metrics if "kl" in metric.name.lower()), found.metrics[-1])

    def parts(metric: Any) -> list[Any]:
        mine = [Line(f"A {found.edit.split(' × ')[0]}", found.doses, [value.estimate for value in metric.values], 1)]
        turned = next((item for item in found.placebo if item.name == metric.name), None)
        return mine if turned is None else [*mine, Line("placebo", found.doses, [value.estimate for value in turned.values], None)]

    labels = [metric.title + (f" ({metric.unit})" if metric.unit else "") for metric in (effect, damage)]
    rows = [
        {
            "dose": dose,
            "metric": metric.title,
            "value": value.estimate,
            "95 % low": _finite(value.low),
            "95 % high": _finite(value.high),
            "n": value.n,
        }
        for metric in found.metrics
        for dose, value in zip(found.doses, metric.values)
    ]
    caption = words.provenance(model=found.model, edit=found.edit_id[:6], data=found.data, n=effect.n, split=found.split)
    figure = dose_strip("Effect and damage over the dose", parts(effect), parts(damage), *labels)
    figure_panel(
        figure, rows, caption, key="sweep",
        look_for="The widest band of doses where the upper line is high and the lower one flat. The placebo shows what size alone does.",
    )  # fmt: skip


def draw_coherent(found: Any) -> None:
    """The largest dose within limits, in words."""
    limits = f"KL up to {found.limits.kl_nats:g} nats, perplexity up to ×{found.limits.perplexity_ratio:g}"
    bound = "" if found.is_bounded else " It is the largest that was tried."
    meaning(f"It stays coherent up to dose **{found.dose:.2f}** ({limits}; n={found.n_texts} neutral texts).{bound}", "coherent")
