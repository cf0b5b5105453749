"""Figures of a comparison: where, token by token, a lane leaves the base."""

from __future__ import annotations

from typing import Literal

import plotly.graph_objects as go

from workbench.evaluate.comparison import ComparedToken, Comparison
from workbench.figures.attention import shown
from workbench.figures.theme import LANE_DASHES, LANE_SYMBOLS, lane_colour, lane_letter

Quantity = Literal["kl_nats", "change"]
_WORDS = {"kl_nats": "KL to the base (nats)", "change": "Δ log-probability to the base (nats)"}


def token_differences(found: Comparison, prompt: int, quantity: Quantity = "kl_nats") -> go.Figure:
    """A line a lane over the tokens of its own text."""
    figure = go.Figure()
    for lane, (record, text) in enumerate(zip(found.lanes, found.texts[prompt])):
        if lane == 0:
            continue
        figure.add_scatter(
            x=list(range(len(text.tokens))), y=[getattr(token, quantity) for token in text.tokens],
            text=[shown(token.text) for token in text.tokens], name=f"{lane_letter(lane)} {record.label}", mode="lines+markers",
            line={"color": lane_colour(lane), "dash": LANE_DASHES[lane % 6]}, marker={"symbol": LANE_SYMBOLS[lane % 6]},
            hovertemplate="token %{x} %{text}<br>%{y:.3f} nats<extra></extra>",
        )  # fmt: skip
    figure.update_layout(title="Where each lane leaves the base", height=300, showlegend=True)
    figure.update_xaxes(title="generated token")
    figure.update_yaxes(title=_WORDS[quantity])
    return figure


def top_tokens(token: ComparedToken, lane: int = 1) -> go.Figure:
    """The likeliest tokens at one place, under the base and under the lane."""
    figure = go.Figure()
    names = list(dict.fromkeys(name for name, _ in (*token.top, *token.base_top)))
    for index, (label, rows) in enumerate((("base", token.base_top), ("lane", token.top))):
        shares = dict(rows)
        figure.add_bar(
            y=[shown(name) for name in names], x=[shares.get(name) for name in names], orientation="h", name=label,
            marker_color=lane_colour(index * lane), hovertemplate="%{y} %{x:.3f}<extra>" + label + "</extra>",
        )  # fmt: skip
    figure.update_layout(title=f"Candidates where {shown(token.text)} was chosen", height=120 + 30 * len(names), barmode="group")
    figure.update_xaxes(title="probability", range=[0, 1])
    figure.update_yaxes(autorange="reversed")
    return figure
