"""Pictures of what an edit moves: layers by size and angle, directions of one layer, both sides before and after, deltas of weights,
heads by how far they turn. A random edit of equal size stands beside each in grey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.attention import head_grid
from workbench.figures.basic import Line, lines
from workbench.figures.picture import Picture, pictures_of
from workbench.figures.spectra import moved
from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.methods.registry import FitReport

if TYPE_CHECKING:
    from workbench.lenses.edit_moves import EditMoves
    from workbench.lenses.weight_moves import WeightMove, WeightMoves


def layers_moved(found: EditMoves) -> go.Figure:
    """How far each layer is moved above, at which angle below."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    layers = list(found.layers)
    for row, values in ((1, found.sizes), (2, found.angles)):
        for who, name, colour, dash in ((0, "the edit", LANE_COLOURS[1], "solid"), (1, "random edit of equal size", PLACEBO_COLOUR, "dot")):
            figure.add_scatter(
                row=row, col=1, x=layers, y=values[who].tolist(), name=name, mode="lines+markers", showlegend=row == 1,
                line={"color": colour, "dash": dash}, marker={"symbol": "circle-open" if who else "square", "size": 6},
            )  # fmt: skip
    figure.update_layout(title="How far each layer is moved, and turned", height=400)
    figure.update_yaxes(title="move, of its length", rangemode="tozero", row=1)
    figure.update_yaxes(title="angle (degrees)", rangemode="tozero", row=2)
    figure.update_xaxes(title="layer", row=2)
    return figure


def direction_shares(found: EditMoves, layer: int) -> go.Figure:
    """The share of each leading direction of the moves of a layer."""
    one = found.at(layer)
    numbers = list(range(1, len(one.directions) + 1))
    figure = go.Figure()
    figure.add_bar(
        x=numbers, y=[d.share for d in one.directions], name="the edit", marker_color=LANE_COLOURS[1],
        text=["  ".join(_token(token) for token in d.promotes[:2]) for d in one.directions], textposition="outside", cliponaxis=False,
        hovertemplate="direction %{x}: %{y:.1%} of the squares; promotes %{text}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=numbers, y=list(one.random_shares[: len(numbers)]), name="random edit of equal size", mode="lines+markers",
        line={"color": PLACEBO_COLOUR, "dash": "dot"}, marker={"symbol": "circle-open"},
    )  # fmt: skip
    figure.update_layout(title=f"Directions of the move, layer {layer}", height=340, showlegend=True)
    figure.update_xaxes(title="direction, the strongest first", dtick=1)
    figure.update_yaxes(title="share of the squares", range=[0, 1.15], tickformat=".0%")
    return figure


def sides_moved(found: EditMoves, layer: int) -> go.Figure:
    """Both sides on the two leading directions of the moves, before and after."""
    one = found.at(layer)
    figure = moved(one.before, one.after, found.is_good, layer)
    figure.update_layout(title=f"Where held-out answers go, layer {layer}")
    figure.update_xaxes(title="along direction 1")
    figure.update_yaxes(title="along direction 2", row=1, col=1)
    return figure


def weights_moved(found: WeightMoves) -> go.Figure:
    """How large each delta is beside its matrix."""
    names, sizes = [one.site for one in found.moves], [one.size for one in found.moves]
    figure = go.Figure(
        go.Bar(y=names, x=sizes, orientation="h", marker_color=LANE_COLOURS[1], hovertemplate="%{y}: %{x:.3%} of its matrix<extra></extra>")
    )
    figure.update_layout(title="How large each change of weights is", height=110 + 22 * max(3, len(names)), showlegend=False)
    figure.update_xaxes(title="‖Δ‖ / ‖W‖", rangemode="tozero", tickformat=".2%")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def weight_spectrum(one: WeightMove) -> go.Figure:
    """The singular values of a delta, beside those of a random matrix of its rank and size."""
    x = list(range(1, len(one.values) + 1))
    parts = [
        Line("the edit", x, one.values.tolist(), 1),
        Line("random matrix of its rank and size", x, one.random[: len(x)].tolist(), None),
    ]
    return lines(f"Spectrum of the change of {one.site}", parts, "direction", "singular value")


@pictures_of("angles_rms", "cosine", "turned_layers")
def rotation_map(report: FitReport) -> tuple[Picture, ...]:
    """Layers by heads: how far each head turns; those that are not turned stay blank."""
    rms, cosine = (np.asarray(report.arrays[name], dtype=float) for name in ("angles_rms", "cosine"))
    if rms.ndim != 2 or not rms.size:
        return ()
    turned = np.where(rms > 0, rms, np.nan)
    layers = [int(layer) for layer in report.arrays["turned_layers"]]
    figure = head_grid(turned, layers, "How far each head is turned", "radians")
    rows = [
        {"layer": layers[i], "head": int(j), "root mean square angle": float(rms[i, j]), "cosine of z and z'": float(cosine[i, j])}
        for i, j in np.ndindex(*rms.shape)
    ]
    i, j = np.unravel_index(int(rms.argmax()), rms.shape)
    says = "No head is turned: this edit leaves the model as it is."
    if (rms > 0).any():
        typical = float(np.median(rms[rms > 0]))
        says = f"Head {layers[i]}.{j} is turned most, by {rms[i, j]:.2f} radians; half of those that turn, turn by {typical:.2f} or more."
    look_for = (
        "A search that found something turns a few heads far. Where all are of one colour, it has turned everything a little, as a random "
        "point of its box would."
    )
    return (Picture("rotation-map", figure, rows, says, look_for),)


def direction_rows(found: EditMoves, layer: int) -> list[dict[str, Any]]:
    """One table row a direction: what it says, and which demonstrations lie farthest along it."""
    return [
        {
            "direction": at, "share of the squares": round(one.share, 4), "promotes": "  ".join(map(_token, one.promotes)),
            "suppresses": "  ".join(map(_token, one.suppresses)), "farthest along it": list(one.most),
            "farthest against it": list(one.least),
        }
        for at, one in enumerate(found.at(layer).directions, 1)
    ]  # fmt: skip


def _token(text: str) -> str:
    return text.replace(" ", "␣").replace("\n", "⏎")
