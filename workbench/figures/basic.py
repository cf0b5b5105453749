"""Figures that many pages need: next-token bars, curves of a report, values with intervals, a strip of doses, two histograms.

Each takes plain values and returns a figure with a title, units and lane colours; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from workbench.figures.theme import LANE_DASHES, LANE_SYMBOLS, PLACEBO_COLOUR, lane_colour, lane_letter


@dataclass(frozen=True)
class Line:
    """A named line; `lane` gives its colour and dash, None is grey and dotted (a placebo, a reference)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    lane: int | None = 1


@dataclass(frozen=True)
class IntervalBar:
    """A value with the ends of its 95 % interval; `lane` as in `Line`."""

    name: str
    value: float
    low: float
    high: float
    n: int
    lane: int | None = 0


def next_token_bars(title: str, lanes: Sequence[tuple[str, Sequence[tuple[str, float]]]], height: int = 0) -> go.Figure:
    """Horizontal bars of the likeliest next tokens, one colour a lane; tokens in the order of the first lane that has them."""
    order = list(dict.fromkeys(token for _, rows in lanes for token, _ in rows))
    figure = go.Figure()
    for index, (name, rows) in enumerate(lanes):
        shares = dict(rows)
        figure.add_bar(
            y=order,
            x=[shares.get(token) for token in order],
            orientation="h",
            name=f"{lane_letter(index)} {name}",
            marker_color=lane_colour(index),
            hovertemplate="%{y}  %{x:.3f}<extra>" + name + "</extra>",
        )
    figure.update_layout(
        title=title, height=height or 96 + (16 + 12 * len(lanes)) * max(3, len(order)), barmode="group", showlegend=len(lanes) > 1,
        xaxis={"title": "probability", "range": [0, 1]}, yaxis={"autorange": "reversed", "tickfont": {"family": "monospace"}},
    )  # fmt: skip
    return figure


def lines(title: str, parts: Sequence[Line], x_label: str, y_label: str, *, log_y: bool = False, height: int = 320) -> go.Figure:
    """Lines in lane colours with markers; references in grey."""
    figure = go.Figure()
    for part in parts:
        reference = part.lane is None
        figure.add_scatter(
            x=list(part.x),
            y=list(part.y),
            name=part.name,
            mode="lines+markers" if len(part.x) <= 60 else "lines",
            line={
                "color": _colour(part.lane),
                "dash": "dot" if reference else LANE_DASHES[(part.lane or 0) % 6],
                "width": 1.5 if reference else 2.2,
            },
            marker={"symbol": "circle-open" if reference else LANE_SYMBOLS[(part.lane or 0) % 6], "size": 6},
        )
    figure.update_layout(title=title, height=height, showlegend=len(parts) > 1)
    figure.update_xaxes(title=x_label)
    figure.update_yaxes(title=y_label, type="log" if log_y else "linear", exponentformat="power")
    return figure


def intervals(
    title: str, rows: Sequence[IntervalBar], x_label: str, *, span: tuple[float, float] | None = None, chance: float | None = None
) -> go.Figure:
    """A dot and its 95 % interval a row, with the value written beside it."""
    figure = go.Figure()
    for row in rows:
        figure.add_scatter(
            x=[row.value],
            y=[row.name],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row.high - row.value],
                "arrayminus": [row.value - row.low],
                "thickness": 2,
                "width": 5,
            },
            mode="markers+text",
            text=[f"{row.value:.2f}  n={row.n}"],
            textposition="top left" if span and row.value > 0.9 * span[1] else "top center",
            cliponaxis=False,  # a mark at 1.00 stands on the edge of the axis
            marker={"size": 11, "color": _colour(row.lane), "symbol": "circle-open" if row.lane is None else LANE_SYMBOLS[row.lane % 6]},
            hovertemplate=f"{row.name}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}]  n={row.n}<extra></extra>",
            showlegend=False,
        )
    if chance is not None:
        figure.add_vline(x=chance, line={"dash": "dot", "color": PLACEBO_COLOUR}, annotation_text="chance", annotation_position="bottom")
    figure.update_layout(title=title, height=110 + 46 * len(rows))
    figure.update_xaxes(title=x_label, range=None if span is None else list(span))
    figure.update_yaxes(range=[len(rows) - 0.5, -0.8], showgrid=False)
    return figure


def dose_strip(title: str, effect: Sequence[Line], damage: Sequence[Line], effect_label: str, damage_label: str) -> go.Figure:
    """Effect above, damage below, over the same doses; dose 1 is marked."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for place, parts in ((1, effect), (2, damage)):
        for part in parts:
            reference = part.lane is None
            figure.add_scatter(
                row=place,
                col=1,
                x=list(part.x),
                y=list(part.y),
                name=part.name,
                legendgroup=part.name,
                showlegend=place == 1,
                mode="lines+markers",
                line={"color": _colour(part.lane), "dash": "dot" if reference else LANE_DASHES[(part.lane or 0) % 6]},
                marker={"symbol": "circle-open" if reference else LANE_SYMBOLS[(part.lane or 0) % 6]},
            )
    figure.add_vline(x=1.0, line={"dash": "dot", "color": PLACEBO_COLOUR})
    figure.update_layout(title=title, height=420)
    figure.update_yaxes(title=effect_label, row=1)
    figure.update_yaxes(title=damage_label, row=2)
    figure.update_xaxes(title="dose (1 is as fitted)", row=2)
    return figure


def histograms(title: str, groups: Mapping[str, Sequence[float]], x_label: str, *, bins: int = 30) -> go.Figure:
    """Overlaid histograms on common bins: positives blue, negatives vermilion, others grey."""
    colours = {"positive": "#0072B2", "negative": "#D55E00"}
    values = [value for group in groups.values() for value in group]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    figure = go.Figure()
    for name, group in groups.items():
        figure.add_histogram(
            x=list(group),
            name=f"{name} n={len(group)}",
            xbins={"start": low, "end": high + 1e-9, "size": max(high - low, 1e-9) / bins},
            marker={"color": colours.get(name, PLACEBO_COLOUR), "pattern": {"shape": "/" if name == "negative" else ""}},
            opacity=0.7,
        )
    figure.update_layout(title=title, barmode="overlay", height=300)
    figure.update_xaxes(title=x_label)
    figure.update_yaxes(title="demonstrations")
    return figure


def bars(
    title: str, names: Sequence[str], values: Sequence[float], x_label: str, *, lane: int | None = 1, top: float | None = None
) -> go.Figure:
    """Horizontal bars of named values, the first on top. `top` ends the axis, so that figures side by side have one scale."""
    figure = go.Figure(
        go.Bar(y=list(names), x=list(values), orientation="h", marker_color=_colour(lane), hovertemplate="%{y}: %{x:.3g}<extra></extra>")
    )
    figure.update_layout(title=title, height=110 + 26 * max(2, len(names)), showlegend=False)
    figure.update_xaxes(title=x_label, range=None if top is None else [0, top])
    figure.update_yaxes(autorange="reversed")
    return figure


def _colour(lane: int | None) -> str:
    return PLACEBO_COLOUR if lane is None else lane_colour(lane)
