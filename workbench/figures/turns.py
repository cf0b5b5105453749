"""Pictures of turned activations: probes layer by layer, angles predicted and wanted, who passes the gate, layers by their gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures.basic import histograms
from workbench.figures.picture import Arrays, Picture, pictures_of
from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.methods.registry import FitReport


@pictures_of("probe_accuracy", "gated_bad", "explained")
def pictures(report: FitReport) -> tuple[Picture, ...]:
    """The pictures of a finished fit."""
    arrays, held = report.arrays, int(report.scalars["n_held_out"])
    layers = [int(layer) for layer in arrays["layers"]]
    edited = [layer for layer, taken in zip(layers, arrays["selected"]) if taken]
    found = [_probes_picture(arrays, layers, edited), _gates_picture(arrays, layers)]
    if np.isfinite(arrays["benefit"]).any():
        found.append(_gain_picture(arrays, layers, held))
    found += [_angle_picture(arrays, layer, layers.index(layer)) for layer in edited]
    return tuple(found)


def _probes_picture(arrays: Arrays, layers: Sequence[int], edited: Sequence[int]) -> Picture:
    value, low, high = (arrays[name] for name in ("probe_accuracy", "probe_accuracy_low", "probe_accuracy_high"))
    figure = go.Figure(
        go.Bar(
            x=[f"layer {layer}" for layer in layers],
            y=value.tolist(),
            error_y={"type": "data", "symmetric": False, "array": (high - value).tolist(), "arrayminus": (value - low).tolist()},
            marker={
                "color": [LANE_COLOURS[1] if layer in edited else PLACEBO_COLOUR for layer in layers],
                "pattern": {"shape": ["" if layer in edited else "/" for layer in layers]},
            },
        )
    )
    figure.add_hline(y=0.5, line={"color": PLACEBO_COLOUR, "dash": "dot", "width": 1}, annotation_text="chance")
    figure.update_layout(title="Accuracy of each probe", height=300, showlegend=False)
    figure.update_yaxes(title="accuracy on held-out tokens", range=[0, 1.02])
    rows: list[dict[str, Any]] = [
        {"layer": layer, "accuracy": float(value[i]), "low": float(low[i]), "high": float(high[i]), "edited": layer in edited}
        for i, layer in enumerate(layers)
    ]
    n_held = 2 * int(arrays["n_held_pairs"].max())
    says = f"Edited: layer {', '.join(map(str, edited))}. Whiskers are 95 % intervals over {n_held} held-out tokens."
    return Picture(
        "turns-probes",
        figure,
        rows,
        says,
        "Plain bars are edited, hatched ones are not. A whisker across the dotted line is a probe at chance.",
    )


def _gates_picture(arrays: Arrays, layers: Sequence[int]) -> Picture:
    series = (
        ("bad answers", "gated_bad", LANE_COLOURS[5]),
        ("end of prompt", "gated_prompt_end", LANE_COLOURS[2]),
        ("good answers", "gated_good", LANE_COLOURS[1]),
        ("neutral text", "gated_neutral", PLACEBO_COLOUR),
    )
    figure, names = go.Figure(), [f"layer {layer}" for layer in layers]
    for name, key, colour in series:
        figure.add_bar(x=names, y=[None if np.isnan(v) else float(v) for v in arrays[key]], name=name, marker_color=colour)
    figure.update_layout(title="Share of held-out tokens that turn", height=320, barmode="group")
    figure.update_yaxes(title="share on the negative side", range=[0, 1.02])
    rows = [{"layer": layer, **{name: float(arrays[key][i]) for name, key, _ in series}} for i, layer in enumerate(layers)]
    look = (
        "Bad answers and the ends of prompts should turn, neutral text should not. "
        "If no prompt end turns, the first answer token cannot change."
    )
    return Picture("turns-gates", figure, rows, "", look)


def _gain_picture(arrays: Arrays, layers: Sequence[int], held: int) -> Picture:
    figure = go.Figure()
    for layer, gain, damage, taken in zip(layers, arrays["benefit"], arrays["damage"], arrays["selected"]):
        colour = LANE_COLOURS[1] if taken else PLACEBO_COLOUR
        figure.add_scatter(
            x=[float(damage)],
            y=[float(gain)],
            mode="markers+text",
            text=[str(layer)],
            textposition="top center",
            marker={"size": 10, "color": colour, "symbol": "circle" if taken else "circle-open"},
            name=f"layer {layer}",
            showlegend=False,
        )
    figure.update_layout(title="Each layer alone: gain against damage", height=320)
    figure.update_xaxes(title="KL on neutral text, nats a token", rangemode="tozero")
    figure.update_yaxes(title="P(good) on validation rows")
    rows: list[dict[str, Any]] = [
        {"layer": layer, "P(good)": float(arrays["benefit"][i]), "KL": float(arrays["damage"][i]), "edited": bool(arrays["selected"][i])}
        for i, layer in enumerate(layers)
    ]
    return Picture("turns-gain", figure, rows, f"{held} validation rows.", "Up is good, right is bad. Filled marks are the layers taken.")


def _angle_picture(arrays: Arrays, layer: int, i: int) -> Picture:
    groups = {
        "wanted, bad answers": arrays[f"angle_target[{layer}]"].tolist(),
        "negative": arrays[f"angle_predicted[{layer}]"].tolist(),
        "positive": arrays[f"angle_predicted_good[{layer}]"].tolist(),
    }
    figure = histograms(f"Angles at layer {layer}", groups, "radians")
    rows = [{"group": name, "angle": value} for name, values in groups.items() for value in values]
    says = (
        f"Layer {layer}: the network explains {arrays['explained'][i]:.0%} of the spread of angles; "
        f"{arrays['flipped'][i]:.0%} of turned bad tokens cross to the good side at dose 1."
    )
    return Picture(
        f"turns-angles-{layer}",
        figure,
        rows,
        says,
        "Predicted angles of bad answers should lie where the wanted ones do, of good answers near 0.",
    )
