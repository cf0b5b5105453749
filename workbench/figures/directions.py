"""Pictures of a direction's card: the words that it raises and lowers, and how alike other directions are."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.lenses.directions import DirectionCard


def words_of(found: DirectionCard) -> go.Figure:
    """Bars to the right for words that it raises, to the left for those that it lowers; each written out."""
    figure = go.Figure()
    sides = (("raises", "+", found.tokens.promoted, LANE_COLOURS[5]), ("lowers", "−", found.tokens.suppressed, LANE_COLOURS[1]))
    for name, sign, side, colour in sides:
        figure.add_bar(
            y=[f"{sign}{i + 1} {shown(token)}" for i, (token, _) in enumerate(side)],
            x=[by for _, by in side],
            orientation="h",
            name=name,
            marker_color=colour,
            hovertemplate="%{y}: %{x:.3g}<extra>" + name + "</extra>",
        )
    n = len(found.tokens.promoted) + len(found.tokens.suppressed)
    figure.update_layout(title=f"What {found.name} says", height=120 + 24 * max(4, n), showlegend=True)
    figure.update_xaxes(title="change of the logit, up to the norm's scale")
    figure.update_yaxes(autorange="reversed", type="category", tickfont={"family": "monospace"})
    return figure


def resemblance(found: DirectionCard) -> go.Figure:
    """The cosine to each other direction; the grey band is where 19 of 20 random directions lie."""
    names, values = [name for name, _ in found.cosines], [value for _, value in found.cosines]
    figure = go.Figure(
        go.Bar(y=names, x=values, orientation="h", marker_color=LANE_COLOURS[1], hovertemplate="%{y}: %{x:.3f}<extra></extra>")
    )
    figure.add_vrect(x0=-2 * found.chance, x1=2 * found.chance, fillcolor=PLACEBO_COLOUR, opacity=0.25, line_width=0)
    figure.update_layout(
        title=f"What {found.name} resembles behind layer {found.layer}", height=130 + 30 * max(2, len(names)), showlegend=False
    )
    figure.update_xaxes(title="cosine (grey: random directions)", range=[-1.05, 1.05])
    figure.update_yaxes(autorange="reversed")
    return figure
