"""The picture of a circuit: components from the embedding at the bottom to the logits on top, edges by sign and size."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.basic import Line, lines
from workbench.figures.theme import LANE_COLOURS
from workbench.lenses.circuits import Circuit

# Colour and dash: colour is never the only sign.
_SIGNS = ((1, LANE_COLOURS[5], "solid", "towards"), (-1, LANE_COLOURS[1], "dot", "away from"))


def circuit_graph(found: Circuit, n_edges: int | None = None) -> go.Figure:
    """The strongest edges; a solid vermilion one speaks for the target, a dotted blue one against it, its width is its size."""
    edges = found.edges[:n_edges]
    places = _places({name for edge in edges for name in (edge.writer, edge.reader)})
    largest = max((abs(edge.share) for edge in edges), default=1.0) or 1.0
    figure = go.Figure()
    for sign, colour, dash, word in _SIGNS:
        told = [edge for edge in edges if edge.share * sign > 0]
        for i, edge in enumerate(told):
            (x0, y0), (x1, y1) = places[edge.writer], places[edge.reader]
            port = f" ({edge.port})" if edge.port else ""
            figure.add_scatter(
                x=[x0, (x0 + x1) / 2 + 0.12 * (y1 - y0), x1], y=[y0, (y0 + y1) / 2, y1], mode="lines", legendgroup=word, name=word,
                showlegend=i == 0, line={"color": colour, "dash": dash, "width": 1 + 6 * abs(edge.share) / largest, "shape": "spline"},
                hovertemplate=f"{edge.writer} → {edge.reader}{port}: {edge.share:+.3f}<extra></extra>", opacity=0.7,
            )  # fmt: skip
    names = list(places)
    figure.add_scatter(
        x=[places[name][0] for name in names], y=[places[name][1] for name in names], mode="markers+text", text=names, showlegend=False,
        textposition="top center", marker={"size": 12, "color": LANE_COLOURS[0]}, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    top = max((y for _, y in places.values()), default=1)
    title = f"The {len(edges)} strongest edges for {shown(found.target)}"
    figure.update_layout(title=title, height=170 + 46 * (int(top) + 1), showlegend=True)
    # Plotly leaves room for the points of a line, not for the bow of its curve.
    reach = [x for trace in figure.data for x in trace.x or ()]  # pyright: ignore
    figure.update_xaxes(visible=False, range=[min(reach) - 0.4, max(reach) + 0.4] if reach else None)
    figure.update_yaxes(visible=False, range=[-0.6, top + 0.8])
    return figure


def circuit_curve(found: Circuit) -> go.Figure:
    """What the strongest edges bring back alone, by how many they are, beside circuits of as many edges drawn at random."""
    chance = [Line(f"random {i + 1}", found.sizes, line, None) for i, line in enumerate(found.random)]
    parts = [Line("the strongest edges", found.sizes, found.curve, 0), *chance]
    figure = lines("How much a circuit brings back alone", parts, "edges kept", "share of the effect", height=300)
    figure.for_each_trace(lambda trace: trace.update(showlegend=trace.name in ("the strongest edges", "random 1")))
    figure.update_traces(name="random circuits", selector={"name": "random 1"})
    figure.update_xaxes(type="log", tickvals=list(found.sizes), ticktext=[str(size) for size in found.sizes])
    return figure


def _places(names: set[str]) -> dict[str, tuple[float, float]]:
    """A row for the embedding, two a layer (heads below the MLP that reads them), one for the logits."""
    rows: dict[int, list[str]] = {}
    for name in names:
        rows.setdefault(_height(name), []).append(name)
    found: dict[str, tuple[float, float]] = {}
    for y, height in enumerate(sorted(rows)):
        row = sorted(rows[height], key=lambda name: (len(name), name))
        for i, name in enumerate(row):
            # Odd rows stand half a step aside, so that an edge does not run through a neighbour's name.
            found[name] = (i - (len(row) - 1) / 2 + (0.25 if y % 2 else 0.0), float(y))
    return found


def _height(name: str) -> int:
    if name == "embedding":
        return -1
    if name == "logits":
        return 10**6
    kind, _, at = name.partition(" ")
    return 2 * int(at.split(".")[0]) + (kind == "MLP")
