"""Pictures of a fit against an adversary: the contest round by round, both sets of prompts drifting together, adapters growing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.basic import Line, lines
from workbench.figures.picture import Picture, moving_pictures_of, pictures_of
from workbench.figures.theme import LANE_COLOURS, LANE_DASHES, PLACEBO_COLOUR
from workbench.methods.registry import FitReport
from workbench.progress import Report

Row = Mapping[str, Any]
WINDOW = (0.45, 0.70)
# Past this many points a side the scatter hides its own shape.
_SHOWN = 400


@pictures_of("projection", "is_target", "g_losses")
def pictures(report: FitReport) -> tuple[Picture, ...]:
    """The pictures of a finished fit."""
    rows = report.tables["rounds"]
    kept = next(row for row in rows if row["kept"])
    projection = report.arrays["projection"]
    n_validation = int(report.scalars["n_validation"])
    return (
        Picture(
            "adversary-contest",
            contest(rows, kept=int(kept["round"])),
            rows,
            f"Kept round {kept['round']} of {rows[-1]['round']}: benefit {rows[0]['benefit']:.2f} → {kept['benefit']:.2f}, "
            f"{kept['kl']:.2g} nats per token on neutral text (n = {n_validation} validation prompts).",
            "Benefit comes in the first rounds; a discriminator that falls into the shaded window no longer finds the concept.",
        ),
        Picture(
            "adversary-projection",
            projected(projection[0], projection[int(kept["round"])], report.arrays["is_target"], int(kept["round"])),
            tuple(_moved(row) for row in rows),
            f"Distance of the two sets over their spread: {rows[0]['class_distance']:.2g} → {kept['class_distance']:.2g}.",
            "Open marks are the unedited model. The two sets should come to lie on each other.",
        ),
        Picture(
            "adversary-adapters",
            grown(_norms(report.tables["norms"])),
            report.tables["norms"],
            "How large each adapter is beside the weight that it changes.",
            "A flat line is an adapter that no gradient reaches; growth that does not end breaks the model.",
        ),
        Picture(
            "adversary-losses",
            adversary_losses(report.arrays["g_losses"]),
            tuple({"round": i + 1, "first": float(item[0]), "last": float(item[-1])} for i, item in enumerate(report.arrays["g_losses"])),
            "The loss of the edit jumps up at each new discriminator, and falls again.",
            "Each round should begin lower than the one before.",
        ),
    )


@moving_pictures_of("rounds", "points_base", "norms")
def moving(history: Sequence[Report]) -> tuple[Picture, ...]:
    """What a running fit has shown so far: the last state of the contest, the sets and the adapters."""
    live: dict[str, Any] = {}
    for report in history:
        live |= report.live
    if "rounds" not in live:
        return ()
    rows: Sequence[Row] = live["rounds"]
    said = f" It now says: {live['sample'][2].strip()}" if "sample" in live else ""
    last = int(rows[-1]["round"])
    return (
        Picture("live-contest", contest(rows), rows, f"Round {last}: the adversary is right in {rows[-1]['accuracy']:.0%}.{said}"),
        Picture(
            "live-projection",
            projected(live["points_base"], live["points"], live["is_target"], last),
            tuple(_moved(row) for row in rows),
        ),
        Picture("live-adapters", grown(live["norms"]), tuple({"site": site, "norms": list(y)} for site, y in live["norms"].items())),
    )


def contest(rows: Sequence[Row], kept: int | None = None) -> go.Figure:
    """Accuracy of each round's new discriminator with the stopping window, benefit, and below them the damage."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.08)
    x = [row["round"] for row in rows]
    names = {"accuracy": "new discriminator", "linear_accuracy": "linear probe", "benefit": "benefit"}
    for i, (column, name) in enumerate(names.items(), 1):
        line = {"color": LANE_COLOURS[i], "dash": LANE_DASHES[i]}
        y = [row[column] for row in rows]
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", line=line, row=1, col=1)
    figure.add_scatter(
        x=x, y=[row["kl"] for row in rows], name="damage", mode="lines+markers", line={"color": LANE_COLOURS[5]}, row=2, col=1
    )
    figure.add_hrect(y0=WINDOW[0], y1=WINDOW[1], fillcolor=PLACEBO_COLOUR, opacity=0.2, line_width=0, row=1, col=1)  # pyright: ignore[reportArgumentType]
    if kept is not None:
        figure.add_vline(x=kept, line_dash="dot", line_color=LANE_COLOURS[0], row="all", col=1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(title="share", range=[-0.03, 1.03], row=1, col=1)
    figure.update_yaxes(title="KL, nats per token", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title="round", dtick=max(1, math.ceil(len(x) / 12)), row=2, col=1)
    return figure.update_layout(title="The adversary, the benefit, and what it costs", height=420)


def projected(base: np.ndarray, now: np.ndarray, is_target: np.ndarray, index: int) -> go.Figure:
    """Both sets of prompts in the plane of the unedited model's largest variance: open marks before, full marks now."""
    figure = go.Figure()
    for side, name, symbol, colour in ((True, "target", "circle", LANE_COLOURS[1]), (False, "anti-target", "diamond", LANE_COLOURS[5])):
        chosen = np.flatnonzero(is_target == side)[:_SHOWN]
        for points, when, mark in ((base, "before", f"{symbol}-open"), (now, f"round {index}", symbol)):
            figure.add_scatter(
                x=points[chosen, 0],
                y=points[chosen, 1],
                mode="markers",
                name=f"{name}, {when}",
                marker={"symbol": mark, "color": colour, "size": 7, "opacity": 0.45 if when == "before" else 0.9},
                hovertemplate=f"{name}, {when}<extra></extra>",
            )
    return figure.update_layout(
        title="The two sets of prompts", height=380, xaxis={"title": "first component"}, yaxis={"title": "second component"}
    )


def grown(norms: Mapping[str, Sequence[float]]) -> go.Figure:
    """Relative size of each adapter over the rounds."""
    parts = [Line(site, list(range(len(y))), list(y), 1 + i % 5) for i, (site, y) in enumerate(norms.items())]
    return lines("Size of each adapter", parts, "round", "‖ΔW‖ / ‖W‖", height=300)


def adversary_losses(g_losses: np.ndarray) -> go.Figure:
    """The generator's loss, step after step, with a line where a round begins."""
    n_rounds, n_steps = g_losses.shape
    flat = g_losses.reshape(-1)
    width = max(1, n_steps // 20)
    smooth = np.convolve(flat, np.ones(width) / width, "same")
    figure = lines(
        "Loss of the edit", [Line(f"mean of {width} steps", list(range(len(flat))), smooth.tolist())], "step", "nats", height=300
    )
    figure.update_traces(mode="lines")
    for i in range(1, n_rounds):
        figure.add_vline(x=i * n_steps, line_dash="dot", line_color=PLACEBO_COLOUR)
    return figure


def gain_against_damage(rows: Sequence[Row], gain: str = "benefit", group: str = "beta") -> go.Figure:
    """Concept against damage: one line a group (weight of the retention term, method), one point a round or dose."""
    names = list(dict.fromkeys(row[group] for row in rows))
    figure = go.Figure()
    for i, name in enumerate(names):
        mine = [row for row in rows if row[group] == name]
        figure.add_scatter(
            x=[row["kl"] for row in mine],
            y=[row[gain] for row in mine],
            mode="lines+markers",
            name=str(name),
            line={"color": LANE_COLOURS[1 + i % 5], "dash": LANE_DASHES[1 + i % 5]},
            hovertemplate="%{y:.2f} at %{x:.3g} nats<extra>" + str(name) + "</extra>",
        )
    return figure.update_layout(
        title="Gain against damage",
        height=360,
        xaxis={"title": "KL on neutral text, nats per token"},
        yaxis={"title": gain, "range": [-0.03, 1.03]},
    )


def _norms(rows: Sequence[Row]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["site"], []).append(row["norm"])
    return found


def _moved(row: Row) -> Row:
    return {name: row[name] for name in ("round", "class_cosine", "class_distance")}
