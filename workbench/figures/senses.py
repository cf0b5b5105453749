"""Figures of senses: what a prompt reads, who makes the answer likely, which senses moved, questions before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from workbench.figures.theme import LANE_SYMBOLS, PLACEBO_COLOUR, UNSIGNED, lane_colour, signed_scale


def _names(tokens: Sequence[str]) -> list[str]:
    # Equal tokens at different places must stay different rows and columns.
    return [f"{i} {_token(token)}" for i, token in enumerate(tokens)]


def _token(text: str) -> str:
    return text.replace(" ", "␣").replace("\n", "⏎")


def reading_heatmap(reading: Any, sense: int, lane: int = 0) -> go.Figure:
    """How much each position reads one sense of each word: row t reads column j."""
    names = _names(reading.tokens)
    weights = reading.weights[lane, sense]
    shown = [[float(x) if j <= i else None for j, x in enumerate(line)] for i, line in enumerate(weights)]
    figure = go.Figure(
        go.Heatmap(
            z=shown, x=names, y=names, zmin=0, zmax=1, colorscale=UNSIGNED, colorbar={"title": "weight"},
            hovertemplate="%{y} reads sense " + str(sense) + " of %{x}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(title=f"Where sense {sense} is read", height=120 + 24 * len(names))
    figure.update_xaxes(title="word that is read")
    figure.update_yaxes(title="position that reads", autorange="reversed")
    return figure


def contribution_map(reading: Any, lane: int = 0) -> go.Figure:
    """What each sense of each word adds to the target's logit at the end of the prompt; the cells sum to the logit."""
    values = reading.contributions[lane]
    top = max(float(abs(values).max()), 1e-9)
    figure = go.Figure(
        go.Heatmap(
            z=values.T, y=_names(reading.tokens), x=[str(i) for i in range(values.shape[0])], zmin=-top, zmax=top,
            colorscale=signed_scale(), colorbar={"title": "logit"},
            hovertemplate="sense %{x} of %{y}: %{z:+.2f}<extra></extra>",
        )
    )  # fmt: skip
    name = _token(reading.target)
    figure.update_layout(title=f"Who makes {name} likely", height=140 + 24 * len(reading.tokens))
    figure.update_xaxes(title="sense", type="category")
    figure.update_yaxes(title="word", autorange="reversed")
    return figure


def shared_direction(found: Any) -> go.Figure:
    """How much of each sense lies along the direction that says the word itself: above zero it says the word, below it keeps it away."""
    shown = [f"{i}  {'  '.join(map(_token, tokens[:2]))}" for i, tokens in enumerate(found.beyond)]
    said = ["  ".join(map(_token, tokens)) for tokens in found.beyond]
    # The mean square of random vectors' cosines with their own leading direction is its share.
    chance = found.random_share**0.5
    figure = go.Figure(
        go.Bar(
            x=found.along.tolist(), y=shown, orientation="h", marker_color=[lane_colour(1 if x > 0 else 5) for x in found.along],
            customdata=said, hovertemplate="cosine %{x:.2f}; beyond it %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vrect(x0=-chance, x1=chance, fillcolor=PLACEBO_COLOUR, opacity=0.3, line_width=0, layer="below")
    figure.update_layout(title=f"Which senses say {_token(found.word)} itself", height=110 + 24 * len(shown))
    figure.update_xaxes(title="cosine with the direction that says the word", range=[-1.05, 1.05])
    figure.update_yaxes(title="sense, and what it says beyond that", autorange="reversed")
    return figure


def moved_senses(rows: Sequence[Mapping[str, Any]], limit: int = 16) -> go.Figure:
    """How far each sense moved, with the tokens that its move promotes."""
    shown = list(rows)[:limit]
    names = [f"{_token(row['word'])} · {row['sense']}" for row in shown]
    figure = go.Figure(
        go.Bar(
            x=[row["moved"] for row in shown], y=names, orientation="h", marker_color=lane_colour(1),
            text=["  ".join(map(_token, row["promotes"])) for row in shown], textposition="auto",
            hovertemplate="%{y} moved by %{x:.2f}; promotes %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(title="Senses that move", height=110 + 26 * max(3, len(shown)))
    figure.update_xaxes(title="length of the move ‖δ‖")
    figure.update_yaxes(autorange="reversed")
    return figure


def before_after(questions: Sequence[str], before: Sequence[float], after: Sequence[float], answer: str) -> go.Figure:
    """The answer's probability after each question, before and after the edit."""
    figure = go.Figure()
    for i, question in enumerate(questions):
        figure.add_scatter(
            x=[before[i], after[i]], y=[question, question], mode="lines", line={"color": lane_colour(0), "width": 1.5},
            showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    for lane, (name, values) in enumerate((("before", before), ("after", after))):
        figure.add_scatter(
            x=list(values), y=list(questions), mode="markers", name=name,
            marker={"color": lane_colour(lane), "symbol": LANE_SYMBOLS[lane], "size": 12},
            hovertemplate="%{y}  %{x:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(title=f"p({answer.strip()}) after each question", height=140 + 40 * len(questions))
    figure.update_xaxes(title="probability", range=[-0.02, 1.02])
    figure.update_yaxes(autorange="reversed")
    return figure


def balls(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Change of success at each ε, one line a method, with the standard error over seeds; no point where nothing was run."""
    figure = go.Figure()
    for lane, method in enumerate(dict.fromkeys(str(row["method"]) for row in rows), start=1):
        mine = [row for row in rows if row["method"] == method]
        figure.add_scatter(
            x=[f"{row['epsilon']:.0e}" for row in mine], y=[row["change"] for row in mine], name=method, mode="lines+markers",
            error_y={"type": "data", "array": [row["standard error"] for row in mine]},
            line={"color": lane_colour(lane)}, marker={"symbol": LANE_SYMBOLS[lane % 6], "size": 9},
        )  # fmt: skip
    figure.update_layout(title="Success gained at equal degradation", height=340)
    figure.update_xaxes(title="ε: allowed rise of the general loss", type="category")
    figure.update_yaxes(title="success after − before")
    return figure
