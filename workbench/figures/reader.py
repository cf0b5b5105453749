"""The picture of a site that was read: how its values are spread over tokens, lane by lane."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from workbench.figures.theme import lane_colour, lane_letter
from workbench.lenses.reader import SiteReading


def spread(found: SiteReading, what: str, bins: int = 40) -> go.Figure:
    """A histogram of every token's value, massive tokens among them, the lanes over one another on common bins; many on a log axis."""
    low, high = float(np.min(found.values)), float(np.max(found.values))
    size = max(high - low, 1e-9) / bins
    figure = go.Figure()
    for i, lane in enumerate(found.lanes):
        figure.add_histogram(
            x=found.values[i],
            name=f"{lane_letter(i)} {lane.label}",
            xbins={"start": low, "end": high + size, "size": size},
            marker={"color": lane_colour(i), "pattern": {"shape": "" if i == 0 else "/"}},
            opacity=0.7,
        )
    figure.update_layout(title=f"How the {what} at {found.site} is spread", barmode="overlay", height=320, showlegend=len(found.lanes) > 1)
    figure.update_xaxes(title=what)
    figure.update_yaxes(title="tokens", type="log" if len(found.tokens) > 200 else "linear")
    return figure
