"""Figures of demonstrations and edits in activation space: both sides projected, separation by layer, angles between two edits."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.lenses.edit_angles import EditAngles
from workbench.lenses.enough import EnoughPairs
from workbench.lenses.geometry import DemonstrationGeometry

_LOOKS = ((True, LANE_COLOURS[1], "circle"), (False, LANE_COLOURS[5], "x"))


def projection(found: DemonstrationGeometry, layer: int, selected: frozenset[int] = frozenset()) -> go.Figure:
    """Both sides at one layer; held-out rows full, fit rows faint; `selected` rows are ringed. `customdata` holds the row's place."""
    z = found.points[found.layers.index(layer)]
    first, held, rows = np.array(found.is_first), np.array(found.held), np.array(found.places)
    figure = go.Figure()
    for is_first, colour, symbol in _LOOKS:
        for is_held in (True, False):
            mask = (first == is_first) & (held == is_held)
            if not mask.any():
                continue
            name = f"{found.sides[0 if is_first else 1].strip()}, {'held out' if is_held else 'fit'} n={int(mask.sum())}"
            figure.add_scatter(
                x=z[mask, 0].tolist(), y=z[mask, 1].tolist(), mode="markers", name=name, customdata=[[int(row)] for row in rows[mask]],
                marker={
                    "color": colour, "symbol": symbol, "size": 8, "opacity": 0.9 if is_held else 0.35,
                    "line": {"width": [3 if int(row) in selected else 0 for row in rows[mask]], "color": LANE_COLOURS[2]},
                },
                hovertemplate="row %{customdata[0]}<br>%{x:.2f}, %{y:.2f}<extra>" + name + "</extra>",
            )  # fmt: skip
    figure.update_layout(title=f"Both sides after layer {layer}", height=400, dragmode="lasso", showlegend=True)
    figure.update_xaxes(title="along the difference of the means")
    figure.update_yaxes(title="leading direction of the rest")
    return figure


def separation(found: DemonstrationGeometry, words: float | None = None) -> go.Figure:
    """AUC on held-out rows by layer with its interval, beside random directions, chance, and what the answers' words alone tell."""
    layers = list(found.layers)
    figure = go.Figure()
    figure.add_scatter(
        x=layers, y=[value.estimate for value in found.auc], mode="lines+markers", name="difference of the means",
        line={"color": LANE_COLOURS[1]},
        error_y={
            "type": "data", "symmetric": False, "array": [value.high - value.estimate for value in found.auc],
            "arrayminus": [value.estimate - value.low for value in found.auc],
        },
    )  # fmt: skip
    figure.add_scatter(
        x=layers, y=list(found.random_auc), mode="lines+markers", name="random directions, mean",
        line={"color": PLACEBO_COLOUR, "dash": "dot"}, marker={"symbol": "circle-open"},
    )  # fmt: skip
    figure.add_hline(
        y=0.5, line={"dash": "dot", "width": 1, "color": PLACEBO_COLOUR}, annotation_text="chance", annotation_position="bottom right"
    )
    if words is not None:
        figure.add_hline(
            y=words,
            line={"dash": "dash", "width": 1, "color": LANE_COLOURS[2]},
            annotation_text="the words alone",
            annotation_position="top left",
        )
    figure.update_layout(title="How well held-out rows are told apart", height=300, showlegend=True)
    figure.update_xaxes(title="layer", dtick=1 if len(layers) <= 24 else None)
    figure.update_yaxes(title="AUC", range=[min(0.35, *(value.low for value in found.auc)) - 0.02, 1.03])
    return figure


def enough_curve(found: EnoughPairs) -> go.Figure:
    """AUC on held-out rows by the number of pairs that the direction was drawn from, with its interval."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(found.sizes), y=[value.estimate for value in found.auc], mode="lines+markers", name="difference of the means",
        line={"color": LANE_COLOURS[1]},
        error_y={
            "type": "data", "symmetric": False, "array": [value.high - value.estimate for value in found.auc],
            "arrayminus": [value.estimate - value.low for value in found.auc],
        },
    )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dot", "width": 1, "color": PLACEBO_COLOUR}, annotation_text="chance")
    figure.update_layout(title="How well held-out rows are told apart by so many pairs", height=300, showlegend=False)
    figure.update_xaxes(title="pairs to fit on", type="log", tickvals=list(found.sizes), ticktext=[str(n) for n in found.sizes])
    figure.update_yaxes(title=f"AUC after layer {found.layer}", range=[min(0.35, *(value.low for value in found.auc)) - 0.02, 1.03])
    return figure


def angles(found: EditAngles, layer: int) -> go.Figure:
    """Principal cosines of one layer beside those of random subspaces of equal dimensions."""
    at = found.layers.index(layer)
    figure = go.Figure()
    for name, values, colour, dash, symbol in (
        ("both edits", found.cosines[at], LANE_COLOURS[1], "solid", "circle"),
        ("random subspaces", found.random[at], PLACEBO_COLOUR, "dot", "circle-open"),
    ):
        figure.add_scatter(
            x=list(range(1, len(values) + 1)), y=values.tolist(), name=name, mode="lines+markers", line={"color": colour, "dash": dash},
            marker={"symbol": symbol}, hovertemplate="pair %{x}: cosine %{y:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(title=f"Shared directions after layer {layer}", height=320, showlegend=True)
    figure.update_xaxes(title="pair of directions")
    figure.update_yaxes(title="cosine of the principal angle", range=[-0.02, 1.04])
    return figure


def angle_layers(found: EditAngles) -> go.Figure:
    """The largest cosine of each layer, beside the random one; layers that one of the edits leaves alone have no mark."""
    figure = go.Figure()
    for name, values, colour, dash in (
        ("both edits", found.cosines, LANE_COLOURS[1], "solid"),
        ("random", found.random, PLACEBO_COLOUR, "dot"),
    ):
        figure.add_scatter(
            x=list(found.layers), y=[float(value[0]) if len(value) else None for value in values], name=name, mode="lines+markers",
            line={"color": colour, "dash": dash},
        )  # fmt: skip
    figure.update_layout(title="The nearest pair of directions, layer by layer", height=300, showlegend=True)
    figure.update_xaxes(title="layer", dtick=1 if len(found.layers) <= 24 else None)
    figure.update_yaxes(title="largest cosine", range=[-0.02, 1.04])
    return figure
