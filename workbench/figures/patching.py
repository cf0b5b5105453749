"""Figures of patching: how much of the clean answer each place brings back."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.attention import head_grid, shown
from workbench.figures.theme import signed_scale
from workbench.lenses.patching import STREAM_KINDS, PatchingEffects

KIND_WORDS = {"resid_pre": "residual stream", "attn_out": "attention", "mlp_out": "MLP"}
UNIT = "share of the effect"


def limit_of(z: np.ndarray) -> float:
    """The end of the colour scale: at least 1, since 1 is the clean run."""
    known = np.abs(z[np.isfinite(z)])
    return float(max(1.0, known.max())) if known.size else 1.0


def patching_streams(found: PatchingEffects, lane: int = 0) -> go.Figure:
    """A map a kind of place, layers down, tokens across; kinds that an estimate does not cover are left out."""
    kinds = [k for k in range(len(STREAM_KINDS)) if np.isfinite(found.streams[lane, k]).any()]
    names = [
        f"{i} {shown(a)}" if a == b else f"{i} {shown(a)} → {shown(b)}"
        for i, (b, a) in enumerate(zip(found.clean_tokens, found.corrupt_tokens))
    ]
    limit = limit_of(found.streams[lane, kinds])
    figure = make_subplots(
        rows=len(kinds), cols=1, shared_xaxes=True, subplot_titles=[KIND_WORDS[STREAM_KINDS[k]] for k in kinds], vertical_spacing=0.09
    )
    layers = [str(layer) for layer in range(found.streams.shape[2])]
    for row, k in enumerate(kinds, 1):
        figure.add_heatmap(
            row=row, col=1, z=found.streams[lane, k], x=names, y=layers, zmin=-limit, zmax=limit, colorscale=signed_scale(),
            showscale=row == 1, colorbar={"title": UNIT}, hovertemplate="layer %{y}<br>%{x}<br>%{z:+.3f}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(title="layer", type="category", autorange="reversed", showgrid=False, row=row, col=1)
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(title="token (corrupted → clean)", row=len(kinds), col=1)
    figure.update_layout(title=_title(found), height=150 + len(kinds) * (60 + 24 * len(layers)))
    return figure


def patching_heads(found: PatchingEffects, lane: int = 0) -> go.Figure:
    """What each head's output brings back, at all positions together."""
    z = found.heads[lane]
    title = "Heads: " + ("estimated from a gradient" if found.is_estimate else "measured, one run a head")
    figure = head_grid(z, range(z.shape[0]), title, UNIT, signed=True)
    limit = limit_of(z)
    return figure.update_traces(zmin=-limit, zmax=limit)


def _title(found: PatchingEffects) -> str:
    what = "estimated" if found.is_estimate else "measured"
    return f"What brings {shown(found.target)} back ({what})"
