"""Where an edit acts: what each place gains against what it breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR

if TYPE_CHECKING:
    from workbench.evaluate.places import PlaceMap
    from workbench.numerics.intervals import Interval


def places(found: PlaceMap) -> go.Figure:
    """A mark a place: damage to the right, the score upwards; random edits of equal size at the same places in grey."""
    figure = go.Figure()
    for at, one in enumerate(found.places):
        is_best = at == found.best
        figure.add_scatter(
            x=[one.damage.estimate], y=[one.gain.estimate], error_x=_bars(one.damage), error_y=_bars(one.gain), mode="markers+text",
            text=[one.label], textposition="top center", name=one.label, showlegend=False, cliponaxis=False,
            marker={"size": 13 if is_best else 9, "color": LANE_COLOURS[1], "symbol": "star" if is_best else "circle"},
            hovertemplate=f"{one.label}: %{{y:.3f}} at KL %{{x:.4f}}<extra></extra>",
        )  # fmt: skip
    turned = [one for one in found.places if one.random is not None]
    figure.add_scatter(
        x=[one.damage.estimate for one in turned], y=[one.random.estimate for one in turned if one.random], mode="markers",
        name="random edit of equal size, at the damage of the edit", marker={"size": 8, "color": PLACEBO_COLOUR, "symbol": "circle-open"},
    )  # fmt: skip
    figure.add_hline(y=found.base.estimate, line={"dash": "dot", "color": PLACEBO_COLOUR}, annotation_text="untouched")
    figure.update_layout(title="What each place gains, and what it breaks", height=380)
    figure.update_xaxes(title=f"{found.damage_title} (nats a token)", rangemode="tozero")
    figure.update_yaxes(title=found.title + (f" ({found.unit})" if found.unit else ""))
    return figure


def _bars(value: Interval) -> dict[str, Any]:
    if value.withheld:
        return {"visible": False}
    up, down = [value.high - value.estimate], [value.estimate - value.low]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 3}
