"""The picture of which layer of an edit moved a token."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.lenses.layer_effects import EMBEDDING, LayerEffects


def effects_by_layer(found: LayerEffects) -> go.Figure:
    """Two bars a layer: what it moves the token by with the layers below it, and, in grey, alone. The first add up to the whole change."""
    names = ["embedding" if layer == EMBEDDING else str(layer) for layer in found.layers]
    figure = go.Figure()
    figure.add_bar(x=names, y=found.moved.tolist(), name="with the layers below", marker_color=LANE_COLOURS[1])
    figure.add_bar(x=names, y=(found.alone - found.base).tolist(), name="alone", marker_color=PLACEBO_COLOUR)
    figure.update_layout(
        title=f"What each layer does to {escape(shown(found.token))}: {found.total:+.2f} nats in all", height=280, barmode="group",
        xaxis={"title": "layer", "type": "category"}, yaxis={"title": "change of log-probability, nats"},
    )  # fmt: skip
    return figure
