"""A design search as a picture: gain over damage, the front, random draws in grey."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from workbench.evaluate.design.record import DesignSearch
from workbench.figures.theme import ACCENT, LANE_SYMBOLS, PLACEBO_COLOUR, lane_colour
from workbench.search.fronts import on_front

LEAST_SHOWN = 1e-4
"""Nats a token: less damage is drawn there, since a logarithm has no zero."""


def design_front(found: DesignSearch, titles: dict[str, str], picked: int | None = None, height: int = 460) -> go.Figure:
    """Every trial at its damage and gain; the custom data of a point is its place among the trials.

    Args:
        titles: what to call each method. picked: a trial that is ringed.
    """
    figure = go.Figure()
    random = [at for at in found.random if not found.trials[at].why]
    control = [at for at in random if found.trials[at].stage == "control"]
    if found.has_control:
        _front(figure, found, random, "random draws' front", PLACEBO_COLOUR, "dot")
    _points(figure, found, control, "drawn at random", PLACEBO_COLOUR, "circle-open")
    for index, method in enumerate(found.methods):
        mine = [at for at in found.searched if found.trials[at].design.method == method and not found.trials[at].why]
        _points(figure, found, mine, titles.get(method, method), lane_colour(1 + index % 5), LANE_SYMBOLS[1 + index % 5])
    _front(figure, found, list(found.front), "front", ACCENT["light"], "solid")
    for at, name in [*((one.trial, "winner") for one in found.winners), *([(picked, "picked")] if picked is not None else [])]:
        figure.add_scatter(
            x=[_damage(found, at)], y=[found.values[at, 0]], mode="markers", name=name, showlegend=False, hoverinfo="skip",
            marker={"symbol": "circle-open" if name == "winner" else "square-open", "size": 18, "color": ACCENT["light"], "line_width": 2},
        )  # fmt: skip
    figure.update_layout(title=f"Gain over damage, {len(found.trials)} trials of {found.n_designs:,} designs", height=height)
    # The title stands where the theme puts a legend, and this one has a line too many for it.
    figure.update_layout(legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"})
    figure.update_xaxes(title="KL of the most moved twentieth of neutral tokens, nats a token", type="log", exponentformat="power")
    figure.update_yaxes(title="gain over the unedited model, nats a token")
    figure.add_hline(y=0, line={"color": PLACEBO_COLOUR, "width": 1})
    return figure


def _damage(found: DesignSearch, at: int) -> float:
    return max(found.trials[at].tail_nats, LEAST_SHOWN)


def _points(figure: go.Figure, found: DesignSearch, places: Sequence[int], name: str, colour: str, symbol: str) -> None:
    if not places:
        return
    figure.add_scatter(
        x=[_damage(found, at) for at in places], y=[found.values[at, 0] for at in places], mode="markers", name=name,
        customdata=[[at] for at in places], text=[found.trials[at].design.label for at in places],
        marker={"color": colour, "symbol": symbol, "size": 9},
        hovertemplate="%{text}<br>gain %{y:.3f}, damage %{x:.3g}<extra></extra>",
    )  # fmt: skip


def _front(figure: go.Figure, found: DesignSearch, places: Sequence[int], name: str, colour: str, dash: str) -> None:
    """The steps under which no trial of these is beaten."""
    values = found.values[list(places)]
    kept = [at for at, here in zip(places, on_front(values) & (values[:, 0] > 0)) if here] if len(places) else []
    kept.sort(key=lambda at: found.trials[at].tail_nats)
    if kept:
        figure.add_scatter(
            x=[_damage(found, at) for at in kept], y=[found.values[at, 0] for at in kept], mode="lines", name=name, hoverinfo="skip",
            line={"color": colour, "dash": dash, "shape": "hv", "width": 2},
        )  # fmt: skip
