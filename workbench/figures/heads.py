"""Figures of heads: how far each is of a kind, and which of them carry a name to the answer."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import plotly.graph_objects as go

from workbench.figures.attention import head_grid, shown
from workbench.figures.theme import LANE_SYMBOLS, PLACEBO_COLOUR, lane_colour, lane_letter
from workbench.lenses.ablation import HeadAblation
from workbench.lenses.heads import HeadScores, NameMovers
from workbench.lenses.induction import InductionProof


def head_kind(found: HeadScores, kind: str, lane: int = 0) -> go.Figure:
    """Scores of one kind: layers down, heads across, colours from 0 to 1."""
    z = found.scores[lane, found.kinds.index(kind)]
    figure = head_grid(z, range(z.shape[0]), f"How far each head is of the kind {kind}", "share of attention")
    return figure.update_traces(zmin=0, zmax=1)


def top_heads(found: HeadScores, kind: str, k: int = 8, lane: int = 0) -> go.Figure:
    """The heads with the highest scores of a kind, with the standard error over texts and the score of even attention as a line."""
    at = found.kinds.index(kind)
    best = found.top(kind, k, lane)
    names = [f"{layer}.{head}" for layer, head, _ in best]
    figure = go.Figure(
        go.Bar(
            x=[score for *_, score in best],
            y=names,
            orientation="h",
            marker_color=lane_colour(lane),
            error_x={"type": "data", "array": [float(found.errors[lane, at, layer, head]) for layer, head, _ in best]},
            hovertemplate="head %{y}: %{x:.3f}<extra></extra>",
        )  # fmt: skip
    )
    line = {"dash": "dot", "color": PLACEBO_COLOUR}
    figure.add_vline(x=float(found.chance[at]), line=line, annotation_text="even attention", annotation_position="bottom right")
    figure.update_layout(title=f"The {len(best)} heads most of the kind {kind}", height=120 + 26 * max(3, len(best)), showlegend=False)
    figure.update_xaxes(title="share of attention", range=[0, 1.05])
    figure.update_yaxes(title="head (layer.head)", type="category", autorange="reversed")
    return figure


def proof_bars(found: InductionProof) -> go.Figure:
    """Probability of the repeated token with every head, without the induction heads, and without as many others (whisker: all draws)."""
    mean, count = float(np.mean(found.random)), len(found.heads)
    names = ["with every head", f"without the {count} induction heads", f"without {count} other heads"]
    ends = {"array": [0, 0, max(found.random) - mean], "arrayminus": [0, 0, mean - min(found.random)]}
    figure = go.Figure(
        go.Bar(
            x=[found.whole, found.without, mean],
            y=names,
            orientation="h",
            marker_color=[lane_colour(0), lane_colour(5), PLACEBO_COLOUR],
            error_x={"type": "data", "symmetric": False, **ends},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )  # fmt: skip
    )
    figure.update_layout(title="What the model repeats without some heads", height=230, showlegend=False)
    figure.update_xaxes(title="probability of the repeated token", range=[0, 1.02])
    figure.update_yaxes(autorange="reversed")
    return figure


def name_mover_map(found: NameMovers, lane: int = 0) -> go.Figure:
    """Attention to the name against push, a mark a head; name movers lie at the upper right, negative ones at the lower right."""
    looks, push = found.attention[lane], found.push[lane]
    labels = [f"{layer}.{head}" for layer in range(push.shape[0]) for head in range(push.shape[1])]
    # Names of heads that lie together would cover each other if all stood on the same side of their marks.
    loudest = np.argsort(-np.abs(push.ravel()))[:5].tolist()
    beside = dict(zip(loudest, cycle(("top center", "middle right", "bottom center", "middle left"))))
    figure = go.Figure(
        go.Scatter(
            x=looks.ravel().tolist(),
            y=push.ravel().tolist(),
            mode="markers+text",
            name=f"{lane_letter(lane)} {found.lanes[lane].label}",
            text=[label if i in beside else "" for i, label in enumerate(labels)],
            textposition=[beside.get(i, "top center") for i in range(len(labels))],
            customdata=labels,
            marker={"size": 9, "color": lane_colour(lane + 1), "symbol": LANE_SYMBOLS[lane % 6]},
            hovertemplate="head %{customdata}<br>attention %{x:.3f}<br>push %{y:+.3f}<extra></extra>",
        )  # fmt: skip
    )
    figure.add_hline(y=0, line={"width": 1, "color": PLACEBO_COLOUR})
    figure.update_layout(title=f"Who looks at {shown(found.target)} and pushes it", height=360, showlegend=False)
    figure.update_xaxes(title=f"attention from the last token to {shown(found.target)} (share)", range=[-0.03, 1.03])
    figure.update_yaxes(title=f"push: logit of {shown(found.target)} less that of {shown(found.distractor)}")
    return figure


def pushed_and_ablated(found: NameMovers, measured: HeadAblation, lane: int = 0, k: int = 8) -> go.Figure:
    """Direct push, an estimate, beside what is lost when the head is silent, measured; the heads with the largest of either."""
    push, lost = found.push[lane], -measured.change[lane]
    order = np.argsort(-np.maximum(np.abs(push), np.abs(lost)).ravel())[:k]
    names = [f"{i // push.shape[1]}.{i % push.shape[1]}" for i in order]
    figure = go.Figure()
    for name, values, colour, pattern in (
        ("direct push", push, lane_colour(1), ""),
        ("lost without the head", lost, lane_colour(5), "/"),
    ):
        figure.add_bar(
            x=[float(values.ravel()[i]) for i in order], y=names, orientation="h", name=name,
            marker={"color": colour, "pattern": {"shape": pattern}}, hovertemplate="head %{y}: %{x:+.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(title="Push against ablation", barmode="group", height=140 + 36 * max(3, len(names)), showlegend=True)
    figure.update_xaxes(title=f"logit of {shown(found.target)} less that of {shown(found.distractor)}")
    figure.update_yaxes(title="head (layer.head)", type="category", autorange="reversed")
    return figure
