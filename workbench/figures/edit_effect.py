"""The picture of what an edit did: by layer, what is left where every head looks as before, and what comes of looking elsewhere."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.attribution import component_word
from workbench.figures.theme import PLACEBO_COLOUR, lane_colour
from workbench.lenses.edit_effect import EditEffect

_FREE, _KEPT = 0, 1


def effect_bars(found: EditEffect, lane: int = 0) -> go.Figure:
    """A bar a component in the order of the network, in two pieces that add up to the edit's effect there."""
    names, free, kept = [component_word(label) for label in found.labels], found.parts[lane, _FREE], found.parts[lane, _KEPT]
    figure = go.Figure()
    for name, values, pattern in (("heads look as before", kept, ""), ("by looking elsewhere", free - kept, "/")):
        figure.add_bar(
            x=values.tolist(), y=names, orientation="h", name=name, marker={"color": lane_colour(lane + 1), "pattern": {"shape": pattern}},
            opacity=1.0 if not pattern else 0.65, hovertemplate="%{y}: %{x:+.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.add_vline(x=0, line={"width": 1, "color": PLACEBO_COLOUR})
    against = "" if found.distractor is None else f" rather than {shown(found.distractor)}"
    figure.update_layout(
        title=f"Where {found.lanes[lane].label} changes {shown(found.target)}{against}", barmode="relative",
        height=140 + 24 * max(3, len(names)),
    )  # fmt: skip
    figure.update_xaxes(title="change of the logit difference" if found.distractor else "change of the logit")
    figure.update_yaxes(autorange="reversed")
    return figure
