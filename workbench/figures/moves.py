"""Pictures of what an edit moves: layers by size and angle, directions of one layer, both sides before and after, deltas of weights,
heads by how far they turn. A random edit of equal size stands beside each in grey."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.attention import head_grid, shown
from workbench.figures.basic import Line, lines
from workbench.figures.picture import Picture, pictures_of
from workbench.figures.spectra import moved, when_below
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
    says = [[shown(token) for token in d.promotes[:2]] for d in one.directions]
    figure = go.Figure()
    figure.add_bar(
        x=numbers, y=[d.share for d in one.directions], name="the edit", marker_color=LANE_COLOURS[1],
        customdata=["  ".join(tokens) for tokens in says],
        hovertemplate="direction %{x}: %{y:.1%} of the squares; promotes %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=numbers, y=list(one.random_shares[: len(numbers)]), name="random edit of equal size", mode="lines+markers",
        line={"color": PLACEBO_COLOUR, "dash": "dot"}, marker={"symbol": "circle-open"},
    )  # fmt: skip
    figure.update_layout(title=f"Directions of the move, layer {layer}", height=340, showlegend=True)
    # Under the bars: above them lies the random edit's line.
    ticks = ["<br>".join([str(number), *map(escape, tokens)]) for number, tokens in zip(numbers, says)]
    figure.update_xaxes(title="direction, the strongest first, and what it says", tickvals=numbers, ticktext=ticks)
    figure.update_yaxes(title="share of the squares", range=[0, 1.05], tickformat=".0%")
    return figure


def sides_moved(found: EditMoves, layer: int) -> go.Figure:
    """Both sides on the two leading directions of the moves, before and after; where a random edit would take them in grey."""
    one = found.at(layer)
    figure = moved(one.before, one.after, found.is_good, layer)
    figure.add_scatter(
        x=one.random[:, 0].tolist(), y=one.random[:, 1].tolist(), name="by a random edit of equal size", mode="markers", row=1, col=2,
        marker={"color": PLACEBO_COLOUR, "size": 5, "symbol": np.where(found.is_good, "circle-open", "x-thin-open").tolist()},
    )  # fmt: skip
    figure.update_layout(title=f"Where held-out answers go, layer {layer}")
    when_below(figure, "along direction 1")
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
    """Layers by heads: how far each head turns; those that are not turned stay blank. Below, the heads in order beside a random point's.

    A report of a version before 0.3 has no random points.
    """
    rms, cosine = (np.asarray(report.arrays[name], dtype=float) for name in ("angles_rms", "cosine"))
    if rms.ndim != 2 or not rms.size:
        return ()
    turned = np.where(rms > 0, rms, np.nan)
    layers = [int(layer) for layer in report.arrays["turned_layers"]]
    figure = head_grid(turned, layers, "How far each head is turned", "radians")
    random = np.asarray(report.arrays.get("angles_random", ()), dtype=float)
    if random.size:
        figure = _beside_random(figure, turned, layers, random)
    rows = [
        {"layer": layers[i], "head": int(j), "root mean square angle": float(rms[i, j]), "cosine of z and z'": float(cosine[i, j])}
        for i, j in np.ndindex(*rms.shape)
    ]
    i, j = np.unravel_index(int(rms.argmax()), rms.shape)
    says = "No head is turned: this edit leaves the model as it is."
    if (rms > 0).any():
        typical = float(np.median(rms[rms > 0]))
        says = f"Head {layers[i]}.{j} is turned most, by {rms[i, j]:.2f} radians; half of those that turn, turn by {typical:.2f} or more"
        says += f" (of a random point of its box: {random.max():.2f} and {np.median(random):.2f})." if random.size else "."
    look_for = (
        "Bars that begin above the grey line and end below it: a few heads are turned far. Bars along it: no more than a random turn."
    )
    return (Picture("rotation-map", figure, rows, says, look_for),)


def _beside_random(grid: go.Figure, turned: np.ndarray, layers: Sequence[int], random: np.ndarray) -> go.Figure:
    """The grid, and under it its heads from the farthest turned on, beside those of a random point."""
    below = 220
    above = int(grid.layout.height)  # pyright: ignore[reportAttributeAccessIssue]
    figure = make_subplots(rows=2, cols=1, row_heights=[above, below], vertical_spacing=70 / (above + below))
    cells: Any = list(grid.data)[0]
    share = above / (above + below)
    figure.add_trace(cells.update(colorbar={"title": "radians", "len": share, "y": 1.0, "yanchor": "top"}), row=1, col=1)
    order = [(i, j) for i, j in zip(*np.unravel_index(np.argsort(-np.nan_to_num(turned), axis=None), turned.shape)) if turned[i, j] > 0]
    names = [f"{layers[i]}.{j}" for i, j in order]
    figure.add_bar(
        x=list(range(1, len(order) + 1)), y=[float(turned[i, j]) for i, j in order], name="this edit", marker_color=LANE_COLOURS[1],
        customdata=names, hovertemplate="head %{customdata}: %{y:.3f} radians<extra></extra>", row=2, col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=list(range(1, len(random) + 1)), y=random.tolist(), mode="lines", name="a random point of its box",
        line={"color": PLACEBO_COLOUR, "dash": "dot"}, row=2, col=1,
    )  # fmt: skip
    figure.update_layout(title=grid.layout.title, height=above + below + 40)  # pyright: ignore[reportAttributeAccessIssue]
    figure.update_xaxes(grid.layout.xaxis.to_plotly_json(), row=1, col=1)  # pyright: ignore[reportAttributeAccessIssue]
    figure.update_yaxes(grid.layout.yaxis.to_plotly_json(), row=1, col=1)  # pyright: ignore[reportAttributeAccessIssue]
    figure.update_xaxes(title="head, the farthest turned first", row=2, col=1)
    figure.update_yaxes(title="radians", rangemode="tozero", row=2, col=1)
    return figure


def direction_rows(found: EditMoves, layer: int) -> list[dict[str, Any]]:
    """One table row a direction: what it says, and which demonstrations lie farthest along it."""
    return [
        {
            "direction": at, "share of the squares": round(one.share, 4), "promotes": "  ".join(map(shown, one.promotes)),
            "suppresses": "  ".join(map(shown, one.suppresses)), "farthest along it": list(one.most),
            "farthest against it": list(one.least),
        }
        for at, one in enumerate(found.at(layer).directions, 1)
    ]  # fmt: skip
