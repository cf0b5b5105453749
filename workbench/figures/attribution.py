"""Figures of direct attribution: who says target rather than distractor."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from workbench.figures.attention import head_grid, shown
from workbench.figures.theme import PLACEBO_COLOUR, lane_colour, lane_letter
from workbench.lenses.attribution import DirectAttribution


def component_word(label: str) -> str:
    """A component as people say it: `0_attn_out` is `layer 0, attention`, `L2H3` is `head 2.3`."""
    if label[:1] == "L" and "H" in label:
        return f"head {label[1:].replace('H', '.')}"
    layer, _, part = label.partition("_")
    if layer.isdigit():
        return f"layer {layer}, {'attention' if part.startswith('attn') else 'MLP'}"
    words = {"embed": "token embedding", "pos_embed": "position embedding", "rest": "an edit, or none of these", "constant": "constant"}
    return words.get(label, label.replace("_", " "))


def component_bars(found: DirectAttribution) -> go.Figure:
    """A bar a component and lane, in the order of the network."""
    names = [component_word(label) for label in found.labels]
    figure = go.Figure()
    for i, lane in enumerate(found.lanes):
        figure.add_bar(
            x=found.values[i].tolist(), y=names, orientation="h", name=f"{lane_letter(i)} {lane.label}",
            marker_color=lane_colour(i), hovertemplate="%{y}: %{x:+.3f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0, line={"width": 1, "color": PLACEBO_COLOUR})
    figure.update_layout(
        title=_title(found),
        barmode="group",
        height=120 + (14 + 10 * len(found.lanes)) * max(3, len(names)),
        showlegend=len(found.lanes) > 1,
    )
    figure.update_xaxes(title=_unit(found))
    figure.update_yaxes(autorange="reversed")
    return figure


def by_layer(found: DirectAttribution) -> go.Figure:
    """The sum so far, component after component: where the answer is made; the last point is the model's own difference."""
    figure = go.Figure()
    names = [component_word(label) for label in found.labels]
    for i, lane in enumerate(found.lanes):
        figure.add_scatter(
            x=names, y=np.cumsum(found.values[i]).tolist(), mode="lines+markers", name=f"{lane_letter(i)} {lane.label}",
            line={"color": lane_colour(i), "shape": "hv"},
        )  # fmt: skip
    figure.add_hline(y=0, line={"width": 1, "color": PLACEBO_COLOUR})
    figure.update_layout(title="The sum, component after component", height=340, showlegend=len(found.lanes) > 1)
    figure.update_xaxes(title="component", tickangle=-40)
    figure.update_yaxes(title=_unit(found))
    return figure


def head_values(found: DirectAttribution, lane: int = 0) -> np.ndarray:
    """Values of the heads as (layer, head); the record must be by head.

    Layers without a head are absent; those of a record by component give an empty array.
    """
    at = {label: j for j, label in enumerate(found.labels) if label[:1] == "L" and "H" in label}
    if not at:
        return np.zeros((0, 0))
    pairs = {label: tuple(int(part) for part in label[1:].split("H")) for label in at}
    z = np.full((1 + max(layer for layer, _ in pairs.values()), 1 + max(head for _, head in pairs.values())), np.nan)
    for label, j in at.items():
        z[pairs[label]] = found.values[lane, j]
    return z


def head_attribution(found: DirectAttribution, lane: int = 0) -> go.Figure:
    """A value a head: layers down, heads across, centred at zero."""
    z = head_values(found, lane)
    return head_grid(z, range(z.shape[0]), _title(found), "logit difference" if found.distractor else "logit", signed=True)


def _title(found: DirectAttribution) -> str:
    against = "" if found.distractor is None else f" rather than {shown(found.distractor)}"
    return f"Who says {shown(found.target)}{against}"


def _unit(found: DirectAttribution) -> str:
    if found.distractor is None:
        return f"logit of {shown(found.target)}"
    return f"logit of {shown(found.target)} less that of {shown(found.distractor)}"
