"""The picture of where a set's sides differ: AUC and the effect of a small push, layer by layer and reading by reading."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.theme import LANE_COLOURS, LANE_DASHES, LANE_SYMBOLS, PLACEBO_COLOUR
from workbench.lenses.locate import Located

_NAMES = {"last": "last token", "mean": "mean over the answer"}


def location(found: Located) -> go.Figure:
    """Two panels over layers; the grey band holds 95 % of random directions. The effect is left out where rows have no two answers."""
    shows = [("auc", "AUC, held-out rows", found.auc_band)]
    if not np.isnan(found.effect).all():
        shows.append(("effect", "effect of a small push, nats a token", found.effect_band))
    figure = make_subplots(rows=1, cols=len(shows), horizontal_spacing=0.12)
    for column, (name, title, band) in enumerate(shows, 1):
        figure.add_hrect(y0=band[0], y1=band[1], fillcolor=PLACEBO_COLOUR, opacity=0.25, line_width=0, row=1, col=column)  # pyright: ignore[reportArgumentType]
        for i, reading in enumerate(found.readings):
            figure.add_scatter(
                x=list(found.layers), y=getattr(found, name)[i].tolist(), name=_NAMES[reading], mode="lines+markers",
                legendgroup=reading, showlegend=column == 1, row=1, col=column, marker={"symbol": LANE_SYMBOLS[i + 1], "size": 7},
                line={"color": LANE_COLOURS[i + 1], "dash": LANE_DASHES[i + 1], "width": 2},
            )  # fmt: skip
        figure.update_yaxes(title=title, row=1, col=column)
        figure.update_xaxes(title="layer", row=1, col=column)
    figure.update_layout(title=f"Where {found.data} is, n={found.n_held}; grey: random directions", height=340)
    return figure
