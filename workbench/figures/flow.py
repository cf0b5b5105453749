"""The picture of a flow: tokens across, layers upward, lines by their share, nodes by their weight."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.theme import LANE_COLOURS
from workbench.lenses.flow import Flow, FlowEdge

# More lines than these are a tangle, and slow to draw.
MOST_EDGES = 300
# Kind, colour, dash: colour is never the only sign.
_LOOKS = {"heads": (LANE_COLOURS[5], "solid"), "stays": (LANE_COLOURS[0], "dot")}


def flow_graph(found: Flow, threshold: float, lane: int = 0) -> go.Figure:
    """Lines from a token before a layer to a token behind it: solid vermilion by a head, dotted grey what stays; marks grow with weight."""
    edges, weights = found.kept(threshold, lane)
    carried = sorted((edge for edge in edges if edge.head != -2), key=lambda edge: -edge.share * float(weights[edge.layer + 1, edge.pos]))
    figure = go.Figure()
    for kind, (colour, dash) in _LOOKS.items():
        own = [edge for edge in carried[:MOST_EDGES] if (edge.head >= 0) == (kind == "heads")]
        for i, edge in enumerate(own):
            figure.add_scatter(
                x=[edge.source, edge.pos], y=[edge.layer, edge.layer + 1], mode="lines", name=kind, legendgroup=kind, showlegend=i == 0,
                line={"color": colour, "dash": dash, "width": 0.8 + 6 * edge.share}, opacity=0.75, hoverinfo="skip",
            )  # fmt: skip
    said = {(edge.layer + 1, edge.pos): edge.share for edge in edges if edge.head == -2}
    places = [(level, pos) for level in range(found.n_layers + 1) for pos in range(len(found.tokens)) if weights[level, pos] > 0]
    figure.add_scatter(
        x=[pos for _, pos in places],
        y=[level for level, _ in places],
        mode="markers",
        showlegend=False,
        marker={"size": [5 + 14 * float(weights[place]) ** 0.5 for place in places], "color": LANE_COLOURS[1]},
        text=[_told(found, edges, level, pos, float(weights[level, pos]), said.get((level, pos), 0.0)) for level, pos in places],
        hovertemplate="%{text}<extra></extra>",
    )
    names = [f"{i} {shown(token)}" for i, token in enumerate(found.tokens)]
    title = f"What the stream at {names[found.pos]} is made of, edges of {threshold:.0%} or more"
    figure.update_layout(title=title, height=min(900, 180 + 26 * (found.n_layers + 1)))
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, title="token", showgrid=False, tickfont={"family": "monospace"})
    step = max(1, found.n_layers // 12)
    levels = list(range(0, found.n_layers + 1, step))
    figure.update_yaxes(tickvals=levels, ticktext=["embedding" if i == 0 else f"layer {i - 1}" for i in levels], showgrid=False)
    return figure


def _told(found: Flow, edges: tuple[FlowEdge, ...], level: int, pos: int, weight: float, mlp: float) -> str:
    """A node in a few lines."""
    own = sorted((edge for edge in edges if (edge.layer + 1, edge.pos) == (level, pos) and edge.head >= 0), key=lambda edge: -edge.share)
    lines = [f"{'embedding' if level == 0 else f'layer {level - 1}'}, {shown(found.tokens[pos])}: weight {weight:.2f}"]
    lines += [f"{edge.name} from {shown(found.tokens[edge.source])} {edge.share:.2f}" for edge in own[:4]]
    return "<br>".join([*lines, *([f"MLP {mlp:.2f}"] if mlp else [])])
