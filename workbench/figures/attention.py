"""Figures of attention: one head's pattern, and how far edits move each head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.figures.theme import UNSIGNED, signed_scale
from workbench.lenses.attention import AttentionPatterns


def attention_head(found: AttentionPatterns, lane: int, layer: int, head: int, *, change: bool = False) -> go.Figure:
    """A head's pattern, queries down and keys across; with `change`, minus that of the first lane."""
    at = found.layers.index(layer)
    z = found.change(lane)[at, head] if change else found.pattern[lane, at, head]
    z = np.where(np.tril(np.ones_like(z)) > 0, z, np.nan)
    names = _numbered(found.tokens)
    limit = float(max(1e-9, np.nanmax(np.abs(z))))
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=names,
            y=names,
            zmin=-limit if change else 0.0,
            zmax=limit if change else 1.0,
            colorscale=signed_scale() if change else UNSIGNED,
            colorbar={"title": "change" if change else "share"},
            hovertemplate="from %{y}<br>to %{x}<br>%{z:.3f}<extra></extra>",
        )
    )
    label = found.lanes[lane].label
    what = f"{label} minus {found.lanes[0].label}" if change else label
    figure.update_layout(title=f"Layer {layer}, head {head}: where each token looks ({what})", height=140 + 22 * len(names))
    figure.update_xaxes(title="key token", showgrid=False)
    figure.update_yaxes(title="query token", autorange="reversed", showgrid=False)
    return figure


def attention_distance(found: AttentionPatterns, lane: int) -> go.Figure:
    """How far an edit moves each head's attention: layers down, heads across."""
    figure = head_grid(found.distance(lane), found.layers, f"How far {found.lanes[lane].label} moves each head", "total variation")
    return figure.update_traces(zmin=0, zmax=1)


def head_grid(z: np.ndarray, layers: Sequence[int], title: str, unit: str, *, signed: bool = False) -> go.Figure:
    """A value a head: layers down, heads across."""
    known = np.abs(z[np.isfinite(z)])
    limit = float(max(1e-9, known.max())) if known.size else 1.0
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=[str(head) for head in range(z.shape[1])],
            y=[str(layer) for layer in layers],
            zmin=-limit if signed else 0.0,
            zmax=limit,
            colorscale=signed_scale() if signed else UNSIGNED,
            colorbar={"title": unit},
            hovertemplate="layer %{y}, head %{x}<br>%{z:.3f}<extra></extra>",
        )
    )
    figure.update_layout(title=title, height=130 + 30 * len(layers))
    figure.update_xaxes(title="head", type="category", showgrid=False)
    figure.update_yaxes(title="layer", type="category", autorange="reversed", showgrid=False)
    return figure


def _numbered(tokens: Sequence[str]) -> list[str]:
    """Axis labels: a token's place keeps equal tokens apart, and a leading space and newlines show."""
    return [f"{i} {shown(token)}" for i, token in enumerate(tokens)]


def shown(token: str) -> str:
    """A token with its spaces and newlines made visible."""
    return token.replace(" ", "␣").replace("\n", "⏎")
