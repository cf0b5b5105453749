"""Figures of the logit lens: the likeliest token after each layer, and how a target rises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from workbench.figures.attention import shown
from workbench.figures.theme import LANE_SYMBOLS, lane_colour, lane_letter, probability_scale, signed_scale
from workbench.lenses.logit_lens import LogitLens

Reading = Literal["probability", "log_prob", "rank"]
_TARGET_DASHES = ("solid", "dash", "dot", "dashdot")


def lens_grid(found: LogitLens, lane: int) -> go.Figure:
    """Entries down (the model's own prediction on top), tokens across; each cell the likeliest next token."""
    entries = list(reversed(found.entries))
    texts = np.vectorize(shown, otypes=[object])(found.top_texts[lane][::-1, :, 0])
    figure = go.Figure(
        go.Heatmap(
            z=found.top_probabilities[lane][::-1, :, 0],
            x=_tokens(found),
            y=entries,
            text=texts,
            texttemplate="%{text}",
            zmin=0,
            zmax=1,
            colorscale=probability_scale(),
            colorbar={"title": "probability"},
            hovertemplate="after %{y}<br>at %{x}<br>%{text} %{z:.3f}<extra></extra>",
        )
    )
    figure.update_layout(title=f"What {found.lanes[lane].label} would say after each layer", height=130 + 26 * len(entries))
    figure.update_xaxes(title="token", showgrid=False)
    figure.update_yaxes(title="read after", autorange="reversed", showgrid=False)
    return figure


def lens_change(found: LogitLens, lane: int, target: int) -> go.Figure:
    """Where in the network an edit changes a target: Δ log-probability to the first lane, entries down, tokens across."""
    z = (found.target_log_probs[lane] - found.target_log_probs[0])[::-1, :, target]
    limit = float(max(1e-9, np.abs(z).max()))
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=_tokens(found),
            y=list(reversed(found.entries)),
            zmin=-limit,
            zmax=limit,
            colorscale=signed_scale(),
            colorbar={"title": "nats"},
            hovertemplate="after %{y}<br>at %{x}<br>%{z:+.3f} nats<extra></extra>",
        )
    )
    name = shown(found.targets[target])
    title = f"Where {found.lanes[lane].label} changes {name}"
    figure.update_layout(title=title, height=130 + 26 * len(found.entries))
    figure.update_xaxes(title="token", showgrid=False)
    figure.update_yaxes(title="read after", autorange="reversed", showgrid=False)
    return figure


def target_path(found: LogitLens, pos: int = -1, reading: Reading = "probability", entries: Mapping[int, str] | None = None) -> go.Figure:
    """How each target rises through the layers at one position: a colour a lane, a dash and a mark a target.

    entries: those to draw and what to call them; all by default.
    """
    figure, told = go.Figure(), entries or dict(enumerate(found.entries))
    for lane, record in enumerate(found.lanes):
        for t, target in enumerate(found.targets):
            log_p = found.target_log_probs[lane, list(told), pos, t]
            y = {"probability": np.exp(log_p), "log_prob": log_p, "rank": found.target_ranks[lane, list(told), pos, t]}[reading]
            figure.add_scatter(
                x=list(told.values()), y=y, name=f"{lane_letter(lane)} {record.label}: {shown(target)}", mode="lines+markers",
                line={"color": lane_colour(lane), "dash": _TARGET_DASHES[t % 4], "width": 2.2},
                marker={"symbol": LANE_SYMBOLS[t % 6] + ("-open" if t % 2 else ""), "size": 7},
            )  # fmt: skip
    unit = {"probability": "probability", "log_prob": "log-probability (nats)", "rank": "rank (0 is the likeliest)"}[reading]
    figure.update_layout(title=f"How the targets rise after {shown(found.tokens[pos])}", height=320, showlegend=True)
    figure.update_xaxes(title="read after")
    figure.update_yaxes(title=unit, autorange="reversed" if reading == "rank" else True)
    return figure


def _tokens(found: LogitLens) -> list[str]:
    return [f"{i} {shown(token)}" for i, token in enumerate(found.tokens)]
