"""The look of every figure: one Plotly template, the fixed colours of lanes, the colour scales, and what stands where there is no data.

Figures carry no colour for the ground: the page gives it, light or dark. `themed(figure, dark=...)` sets what depends on it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Sequence

# Base, then edits A to E: Okabe and Ito's colours, told apart by all common kinds of colour blindness.
LANE_COLOURS = ("#6B7280", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
LANE_LETTERS = ("·", "A", "B", "C", "D", "E")
# Second sign beside the colour, so that colour is never the only one.
LANE_DASHES = ("solid", "solid", "dash", "dot", "dashdot", "longdash")
LANE_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
PLACEBO_COLOUR = "#9CA3AF"
ACCENT = {"light": "#4F46E5", "dark": "#818CF8"}
INK = {"light": "#1F2328", "dark": "#E7E5E0"}
GROUND = {"light": "#FBFAF7", "dark": "#16181D"}
_RULE = {"light": "#DEDAD0", "dark": "#343944"}
SIGNED: list[list[float | str]] = [[0.0, "#0B4F7D"], [0.25, "#6BA6CF"], [0.5, "#F7F5F0"], [0.75, "#E59467"], [1.0, "#A8430F"]]
SIGNED_DARK: list[list[float | str]] = [[0.0, "#7CC0F0"], [0.25, "#2C6C99"], [0.5, "#22252C"], [0.75, "#A8531F"], [1.0, "#F5A66F"]]
UNSIGNED = "Cividis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"

# Pixels: what stands above a plot with one line of legend, one more line of it, the room of a narrow column, a sign, a character.
_TOP, _LINE, _NARROW, _SIGN, _CHARACTER = 56, 20, 310, 46, 6.5


def lane_colour(index: int) -> str:
    """Colour of a lane: 0 is the untouched model, 1 is edit A."""
    return LANE_COLOURS[index % len(LANE_COLOURS)]


def lane_letter(index: int) -> str:
    """Letter of a lane: `·` is the untouched model, then A, B, …"""
    return LANE_LETTERS[index % len(LANE_LETTERS)]


def signed_scale(dark: bool = False) -> list[list[float | str]]:
    """Blue below zero, vermilion above, the ground at zero; use it with a range symmetric about zero."""
    return SIGNED_DARK if dark else SIGNED


def probability_scale(dark: bool = False) -> list[list[float | str]]:
    """One hue, from the ground at 0 to the accent at 1."""
    mode = "dark" if dark else "light"
    return [[0.0, GROUND[mode]], [1.0, ACCENT[mode]]]


@cache
def template(dark: bool = False) -> go.layout.Template:
    """Return the Plotly template for a light or a dark ground."""
    mode = "dark" if dark else "light"
    axis = {
        "gridcolor": _RULE[mode],
        "linecolor": _RULE[mode],
        "zerolinecolor": _RULE[mode],
        "ticks": "outside",
        "tickcolor": _RULE[mode],
        "ticklen": 4,
        "title": {"standoff": 10, "font": {"size": 12}},
        "tickfont": {"size": 11},
        "automargin": True,
    }
    layout = go.Layout(
        font={"family": FONT, "size": 13, "color": INK[mode]},
        title={"font": {"size": 15}, "x": 0.004, "xanchor": "left", "xref": "container", "y": 0.98, "yanchor": "top", "pad": {"b": 8}},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=[*LANE_COLOURS[1:], LANE_COLOURS[0]],
        margin={"l": 56, "r": 16, "t": 56, "b": 48},
        xaxis=axis,
        yaxis=axis,
        hovermode="closest",
        hoverlabel={"font": {"family": FONT, "size": 12}, "bgcolor": GROUND[mode], "bordercolor": _RULE[mode]},
        legend={
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 1,
            "xanchor": "right",
            "font": {"size": 12},
            "bgcolor": "rgba(0,0,0,0)",
        },
        # Its own ground is half of the paper's, which has none: a dark box over the title.
        modebar={"bgcolor": GROUND[mode], "color": LANE_COLOURS[0], "activecolor": ACCENT[mode]},
        colorscale={"sequential": UNSIGNED, "diverging": signed_scale(dark)},
        bargap=0.35,
    )
    return go.layout.Template(layout=layout)


def themed(figure: go.Figure, *, dark: bool = False) -> go.Figure:
    """Set the template on a figure and return it; a heatmap with a coloraxis of its own keeps its scale.

    A legend of several lines gets room under the title, and the figure as much more height.
    """
    layout: dict[str, Any] = figure.layout.to_plotly_json()
    more = _LINE * (_legend_lines(figure, layout) - 1)
    if more > 0 and "t" not in layout.get("margin", {}) and "y" not in layout.get("legend", {}):
        figure.update_layout(margin_t=_TOP + more, height=layout["height"] + more if "height" in layout else None)
    return figure.update_layout(template=template(dark))


def _legend_lines(figure: go.Figure, layout: dict[str, Any]) -> int:
    """Into how many lines a legend breaks in a narrow column: from right to left above the plot, where the title stands too."""
    traces = cast("Sequence[Any]", figure.data)
    names = list(dict.fromkeys(str(one.name) for one in traces if one.name and getattr(one, "showlegend", None) is not False))
    if layout.get("showlegend") is False or len(names) < 2:
        return min(len(names), 1)
    widths = [_SIGN + _CHARACTER * len(name) for name in names]
    # What does not fit on one line stands in columns as wide as the widest name.
    return 1 if sum(widths) <= _NARROW else math.ceil(len(names) / max(1, _NARROW // max(widths)))


def title_of(figure: go.Figure) -> str:
    """The title of a figure; empty if it has none."""
    layout: dict[str, Any] = figure.layout.to_plotly_json()
    return str(layout.get("title", {}).get("text") or "")


def empty_figure(text: str, *, dark: bool = False, height: int = 240) -> go.Figure:
    """A figure that says what will appear here, and how to get it."""
    figure = themed(go.Figure(), dark=dark)
    figure.add_annotation(text=text, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5, font={"size": 14}, opacity=0.7)
    return figure.update_layout(height=height, xaxis_visible=False, yaxis_visible=False)
