"""A dose as a plane: gain over angle and length, the safe region, and where edits stand in it."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from workbench.evaluate.dose_plane import DosePlane
from workbench.figures.theme import ACCENT, LANE_SYMBOLS, lane_colour, lane_letter, signed_scale


def plane_figure(found: DosePlane, height: int = 460) -> go.Figure:
    """Colour is gain; beyond the dashed line neutral text moves by more than the limit; edits run through their doses."""
    limit = float(np.abs(found.gain).max()) or 1.0
    figure = go.Figure()
    figure.add_contour(
        x=list(found.angles), y=list(found.lengths), z=found.gain.T, zmin=-limit, zmax=limit, colorscale=signed_scale(),
        contours={"coloring": "heatmap", "showlines": False}, line={"width": 0}, colorbar={"title": "gain, nats"},
            customdata=found.damage.T,
        hovertemplate="%{x:.0f}°, %{y:.2f} times as long<br>gain %{z:+.3f}, KL %{customdata:.3g}<extra></extra>", name="gain",
    )  # fmt: skip
    if (found.damage > found.limit).any() and (found.damage <= found.limit).any():
        # On the logarithm a line between two points lies where a power law does.
        figure.add_contour(
            x=list(found.angles), y=list(found.lengths), z=np.log10(np.maximum(found.damage.T, 1e-6)), showscale=False, hoverinfo="skip",
            contours={"coloring": "none", "start": math.log10(found.limit), "end": math.log10(found.limit), "size": 1},
            line={"dash": "dash", "width": 2, "color": ACCENT["light"]}, name=f"KL {found.limit:g}", showlegend=True,
        )  # fmt: skip
    for at, one in enumerate(found.placed, 1):
        figure.add_scatter(
            x=list(one.angles), y=list(one.lengths), mode="lines+markers", name=f"{lane_letter(at)} {one.label.label}",
            text=[f"dose {dose:g} of its own" for dose in one.doses], hovertemplate="%{text}: %{x:.1f}°, %{y:.3f}<extra></extra>",
            marker={"symbol": LANE_SYMBOLS[at % len(LANE_SYMBOLS)], "color": lane_colour(at), "line": {"width": 1},
                    "size": [14 if dose == 1.0 else 8 for dose in one.doses]},
            line={"color": lane_colour(at), "width": 2},
        )  # fmt: skip
    if found.best is not None:
        figure.add_scatter(
            x=[found.angles[found.best[0]]], y=[found.lengths[found.best[1]]], mode="markers", name="most gain that is safe",
            marker={"symbol": "circle-open", "size": 20, "color": ACCENT["light"], "line": {"width": 3}}, hoverinfo="skip",
        )  # fmt: skip
    figure.update_layout(title=f"Turning and scaling the stream behind layer {found.layer}, n={found.n}", height=height)
    figure.update_layout(legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"})
    figure.update_xaxes(title="degrees towards the direction (of an edit: from where the token was)", showgrid=False)
    figure.update_yaxes(title="length, times the token's own", showgrid=False)
    return figure
