"""Figures of an evaluation: scores with intervals beside placebos, effect against damage, doses."""

from __future__ import annotations

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.evaluate.dose import CoherentDose, DoseSweep
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import Metric
from workbench.figures.theme import ACCENT, LANE_SYMBOLS, PLACEBO_COLOUR, lane_colour


def metric_intervals(found: Evaluation, metric: Metric) -> go.Figure:
    """A dot and its 95 % interval a lane; placebos are grey and open."""
    figure = go.Figure()
    for lane, (record, value) in enumerate(zip(found.lanes, metric.values)):
        placebo = found.placebo_of[lane] is not None
        known = not math.isnan(value.low)
        error = {"array": [value.high - value.estimate], "arrayminus": [value.estimate - value.low]} if known else {"array": [0]}
        figure.add_scatter(
            x=[value.estimate], y=[record.label], mode="markers", showlegend=False,
            error_x={"type": "data", "symmetric": False, "thickness": 2, "width": 5, **error},
            marker={
                "size": 11, "color": PLACEBO_COLOUR if placebo else lane_colour(lane),
                "symbol": "circle-open" if placebo else LANE_SYMBOLS[lane % 6],
            },
            hovertemplate=f"%{{y}}: {value}<extra></extra>",
        )  # fmt: skip
    unit = f" ({metric.unit})" if metric.unit else ""
    best = {"higher": ", more is better", "lower": ", less is better", "neither": ""}[metric.better]
    figure.update_layout(title=f"{metric.title}, n={metric.n}", height=110 + 40 * len(found.lanes))
    figure.update_xaxes(title=metric.title + unit + best)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def effect_against_damage(found: Evaluation, effect: str, damage: str = "kl_nats") -> go.Figure:
    """Each lane as a point with intervals: effect up, damage to the right."""
    known = {metric.name: metric for metric in found.all_metrics}
    up, right = known[effect], known[damage]
    figure = go.Figure()
    for lane, record in enumerate(found.lanes):
        placebo = found.placebo_of[lane] is not None
        y, x = up.values[lane], right.values[lane]
        figure.add_scatter(
            x=[x.estimate], y=[y.estimate], name=record.label, mode="markers",
            error_x={"type": "data", "symmetric": False, "array": [x.high - x.estimate], "arrayminus": [x.estimate - x.low]},
            error_y={"type": "data", "symmetric": False, "array": [y.high - y.estimate], "arrayminus": [y.estimate - y.low]},
            marker={
                "size": 12, "color": PLACEBO_COLOUR if placebo else lane_colour(lane),
                "symbol": "circle-open" if placebo else LANE_SYMBOLS[lane % 6],
            },
        )  # fmt: skip
    figure.update_layout(title="What it gains against what it costs", height=380, showlegend=True)
    figure.update_xaxes(title=right.title + (f" ({right.unit})" if right.unit else ""))
    figure.update_yaxes(title=up.title + (f" ({up.unit})" if up.unit else ""))
    return figure


def dose_curves(found: DoseSweep, effect: str, damage: str = "kl_nats", coherent: CoherentDose | None = None) -> go.Figure:
    """Effect above, damage below, over dose, with intervals and the placebo in grey; the coherent range is shaded."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    for row, name in ((1, effect), (2, damage)):
        for metrics, is_placebo in ((found.metrics, False), (found.placebo, True)):
            metric = next((item for item in metrics if item.name == name), None)
            if metric is None:
                continue
            values = metric.values
            figure.add_scatter(
                x=list(found.doses), y=[value.estimate for value in values], row=row, col=1, mode="lines+markers",
                name="placebo" if is_placebo else found.edit, showlegend=row == 1,
                error_y={
                    "type": "data", "symmetric": False, "array": [value.high - value.estimate for value in values],
                    "arrayminus": [value.estimate - value.low for value in values],
                },
                line={"color": PLACEBO_COLOUR if is_placebo else lane_colour(1), "dash": "dot" if is_placebo else "solid"},
                marker={"symbol": "circle-open" if is_placebo else LANE_SYMBOLS[1]},
            )  # fmt: skip
            figure.update_yaxes(title=metric.title + (f" ({metric.unit})" if metric.unit else ""), row=row, col=1)
    if coherent is not None:
        figure.add_vrect(x0=0, x1=coherent.dose, fillcolor=ACCENT["light"], opacity=0.08, line_width=0)
    figure.update_layout(title=f"Doses of {found.edit}", height=480, showlegend=True)
    figure.update_xaxes(title="dose", row=2, col=1)
    return figure


def dose_probes(found: CoherentDose) -> go.Figure:
    """Every dose that the search tried: KL over dose, filled where it passed all limits."""
    figure = go.Figure()
    for passed in (True, False):
        mine = [probe for probe in found.probes if (not probe.broken) == passed]
        figure.add_scatter(
            x=[probe.dose for probe in mine], y=[probe.kl_nats for probe in mine], mode="markers",
            name="within limits" if passed else "breaks a limit",
            text=[probe.broken or "none" for probe in mine], hovertemplate="dose %{x:.3f}<br>KL %{y:.4f}<br>breaks %{text}<extra></extra>",
            marker={"size": 10, "symbol": "circle" if passed else "x", "color": lane_colour(1) if passed else lane_colour(5)},
        )  # fmt: skip
    figure.add_hline(y=found.limits.kl_nats, line={"dash": "dot"}, annotation_text="KL limit")
    figure.add_vline(x=found.dose, line={"dash": "dash"}, annotation_text="largest coherent dose")
    title = f"Coherent up to dose {found.dose:.2f}" if found.is_bounded else f"Coherent at every dose tried, up to {found.dose:.2f}"
    figure.update_layout(title=f"{title}, n={found.n_texts} texts", height=320, showlegend=True)
    figure.update_xaxes(title="dose")
    figure.update_yaxes(title="KL on neutral text (nats/token)")
    return figure
