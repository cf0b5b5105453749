"""The picture of a lens over several prompts: the mean by layer or part, with the spread of the rows around it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from workbench.figures.theme import LANE_DASHES, LANE_SYMBOLS, PLACEBO_COLOUR, lane_colour, lane_letter
from workbench.lenses.over_rows import OverRows


def mean_and_spread(found: OverRows, names: Sequence[str], title: str, unit: str) -> go.Figure:
    """A point a label and lane, its whisker one standard deviation of the rows; in the order of the network."""
    figure = go.Figure()
    for i, lane in enumerate(found.lanes):
        figure.add_scatter(
            x=list(names), y=found.mean[i].tolist(), mode="lines+markers" if found.what == "layers" else "markers",
            name=f"{lane_letter(i)} {lane.label}", error_y={"type": "data", "array": found.spread[i].tolist(), "thickness": 1.2},
            line={"color": lane_colour(i), "dash": LANE_DASHES[i % 6]}, marker={"symbol": LANE_SYMBOLS[i % 6], "size": 7},
            hovertemplate="%{x}: %{y:.3f}<extra>" + lane.label + "</extra>",
        )  # fmt: skip
    figure.add_hline(y=0, line={"width": 1, "color": PLACEBO_COLOUR})
    figure.update_layout(title=title, height=420, showlegend=len(found.lanes) > 1)
    figure.update_xaxes(tickangle=-40, type="category")
    figure.update_yaxes(title=unit)
    return figure
