"""Where an edit acts: what each place gains against what it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR

if TYPE_CHECKING:
    from workbench.evaluate.places import PlaceMap
    from workbench.numerics.intervals import Interval

# Below this, in nats a token, a picture of damage would be one of rounding.
_LEAST_KL = 1e-3


def places(found: PlaceMap) -> go.Figure:
    """A row a place: what it gains at the left, beside a random edit of equal size there in grey; what it breaks at the right."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, column_widths=[0.6, 0.4])
    names = [one.label for one in found.places]
    turned = [one for one in found.places if one.random is not None]
    figure.add_scatter(
        row=1, col=1, x=[one.random.estimate for one in turned if one.random], y=[one.label for one in turned], mode="markers",
        name="random edit of equal size", marker={"size": 9, "color": PLACEBO_COLOUR, "symbol": "circle-open"},
    )  # fmt: skip
    signs = ["star" if at == found.best else "circle" for at in range(len(names))]
    for column, values, name in ((1, [one.gain for one in found.places], "the edit"), (2, [one.damage for one in found.places], "")):
        figure.add_scatter(
            row=1, col=column, x=[value.estimate for value in values], y=names, error_x=_bars(values), mode="markers", name=name,
            showlegend=bool(name), cliponaxis=False, marker={"size": 11, "color": LANE_COLOURS[1], "symbol": signs},
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=found.base.estimate, line={"dash": "dot", "color": PLACEBO_COLOUR}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_layout(title="What each place gains, and what it breaks", height=130 + 34 * len(names), showlegend=True)
    figure.update_xaxes(title=found.title + (f" ({found.unit})" if found.unit else ""), row=1, col=1)
    top = max(_LEAST_KL, *(value.high for value in (one.damage for one in found.places) if not value.withheld), 0.0)
    figure.update_xaxes(title=f"{found.damage_title} (nats/token)", range=[-0.03 * top, 1.08 * top], row=1, col=2)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _bars(values: Sequence[Interval]) -> dict[str, Any]:
    up = [0.0 if value.withheld else value.high - value.estimate for value in values]
    down = [0.0 if value.withheld else value.estimate - value.low for value in values]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4}
