"""Which demonstration did it: the harmed rows against the demonstrations behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.figures.theme import signed_scale

if TYPE_CHECKING:
    from workbench.evaluate.influence import Influence

_MOST = 24


def influence_grid(found: Influence) -> go.Figure:
    """Held-out rows down, the most harmed first, and demonstrations across, the most harmful first: what each takes or gives."""
    down = np.argsort(found.after - found.before, kind="stable")[:_MOST]
    order = found.order
    across = order if len(order) <= _MOST else (*order[: _MOST // 2], *order[-_MOST // 2 :])
    z = found.matrix[list(across)][:, down].T
    limit = float(max(1e-9, np.abs(z).max())) if z.size else 1.0
    names = [found.demonstrations[i].id or f"row {i + 1}" for i in across]
    rows = [found.rows[j].id or f"row {j + 1}" for j in down]
    figure = go.Figure(
        go.Heatmap(
            z=z, x=names, y=rows, zmin=-limit, zmax=limit, colorscale=signed_scale(), colorbar={"title": "nats"},
            hovertemplate="row %{y}<br>demonstration %{x}<br>%{z:.3g} nats<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(title="What each demonstration does to held-out rows", height=180 + 16 * len(rows))
    figure.update_xaxes(title="demonstration, the most harmful first", type="category", showgrid=False)
    figure.update_yaxes(title="held-out row, the worst first", type="category", autorange="reversed", showgrid=False)
    return figure
