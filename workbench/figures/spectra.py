"""Pictures of kept and dropped directions: spectra with the cut, directions by the share, angles, edit size, held-out pairs moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.basic import Line, lines
from workbench.figures.picture import Arrays, Picture, pictures_of
from workbench.figures.theme import LANE_COLOURS, PLACEBO_COLOUR
from workbench.methods.registry import FitReport
from workbench.numerics.spectra import noise_values

GOOD_COLOUR, BAD_COLOUR = LANE_COLOURS[1], LANE_COLOURS[5]
_SIDES = (("plus", "good side, kept", GOOD_COLOUR, "solid"), ("minus", "bad side, dropped", BAD_COLOUR, "dash"))
# Values below this share of the largest are rounding; a log axis that shows them hides the rest.
_FLOOR = 1e-12


@pictures_of("keep_grid", "net_size")
def pictures(report: FitReport) -> tuple[Picture, ...]:
    """The pictures of a finished fit."""
    arrays = report.arrays
    layers = [int(layer) for layer in arrays["layers"]]
    n, held = int(report.scalars["n_fit"]), int(report.scalars["n_held_out"])
    found = [_spectrum_picture(arrays, layer, i, n) for i, layer in enumerate(layers)]
    found.append(_cut_picture(arrays, layers))
    found.append(_size_picture(arrays, layers, held))
    found += [_moved_picture(arrays, layer, held) for layer in layers]
    found.append(_overlap_picture(arrays, layers))
    return tuple(found)


def _spectrum_picture(arrays: Arrays, layer: int, i: int, n: int) -> Picture:
    k, m = int(arrays["k_plus"][i]), int(arrays["k_minus"][i])
    shares = arrays[f"cumulative_plus[{layer}]"][k - 1], arrays[f"cumulative_minus[{layer}]"][m - 1]
    dominated = float(arrays["mean_share_plus"][i])
    says = f"Layer {layer}: {k} directions kept ({shares[0]:.1%} of the squares), {m} dropped ({shares[1]:.1%}), from {n} demonstrations."
    if k == 1 and m == 1 and dominated > 0.5:
        says += f" The mean activation explains {dominated:.1%} of the first value."
    rows = [
        {"side": side, "index": j + 1, "singular value": float(value), "cumulative share": float(total), "taken": j < cut}
        for side, cut in (("plus", k), ("minus", m))
        for j, (value, total) in enumerate(zip(arrays[f"spectrum_{side}[{layer}]"], arrays[f"cumulative_{side}[{layer}]"]))
    ]
    look = (
        "Filled marks are taken, open ones are not. A single mark far above the rest is the mean activation, not a contrast. Open marks "
        "above the grey line hold more than noise would."
    )
    return Picture(f"spectrum-{layer}", spectrum(arrays, layer, k, m), rows, says, look)


def spectrum(arrays: Arrays, layer: int, k_plus: int, k_minus: int) -> go.Figure:
    """Singular values of both cross-covariances on a log axis; filled up to the cut, open beyond, beside noise of that size."""
    figure = go.Figure()
    for (side, name, colour, dash), cut in zip(_SIDES, (k_plus, k_minus)):
        values = arrays[f"spectrum_{side}[{layer}]"]
        shown = values[values > values[0] * _FLOOR]
        index = list(range(1, len(shown) + 1))
        symbols = ["circle" if j <= cut else "circle-open" for j in index]
        figure.add_scatter(
            x=index,
            y=shown.tolist(),
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 1},
            marker={"symbol": symbols, "size": 7, "color": colour},
            customdata=arrays[f"cumulative_{side}[{layer}]"][: len(shown)].tolist(),
            hovertemplate="direction %{x}: %{y:.3g}, %{customdata:.2%} up to here<extra>" + name + "</extra>",
        )
        figure.add_vline(x=cut + 0.5, line={"color": colour, "dash": dash, "width": 1})
    # Behind both sides, whose numbers are what a click names.
    for (side, _, _, dash), cut in zip(_SIDES, (k_plus, k_minus)):
        values = arrays[f"spectrum_{side}[{layer}]"]
        beyond = values[cut:][values[cut:] > values[0] * _FLOOR]
        figure.add_scatter(
            x=list(range(cut + 1, cut + 1 + len(beyond))), y=noise_values(len(beyond), float(np.square(beyond).sum())).tolist(),
            mode="lines", name="as noise as large as what is left out", legendgroup="noise", showlegend=side == "plus", hoverinfo="skip",
            line={"color": PLACEBO_COLOUR, "dash": dash, "width": 1},
        )  # fmt: skip
    figure.update_layout(title=f"Singular spectra, layer {layer}", height=320)
    figure.update_xaxes(title="direction")
    figure.update_yaxes(title="singular value", type="log")
    return figure


def _cut_picture(arrays: Arrays, layers: Sequence[int]) -> Picture:
    found = [
        Line(f"layer {layer}, {name}", arrays["keep_grid"].tolist(), arrays[f"k_of_keep_{side}[{layer}]"].tolist(), 1 + i % 5)
        for i, layer in enumerate(layers)
        for side, name in (("plus", "kept"), ("minus", "dropped"))
    ]
    figure = lines("Directions for each share", found, "share K of the squares", "directions k")
    rows = [{"series": line.name, "share": x, "directions": y} for line in found for x, y in zip(line.x, line.y)]
    flat = all(max(line.y[:-1]) <= 1 for line in found)
    says = "Every share below 1 gives one direction: no choice of K makes this edit do anything." if flat else ""
    return Picture("k-of-share", figure, rows, says, "Where the curve is steep, a small change of K changes the edit a lot.")


def _size_picture(arrays: Arrays, layers: Sequence[int], held: int) -> Picture:
    mean, upper = arrays["edit_size_mean"], arrays["edit_size_95"]
    figure = go.Figure(
        go.Bar(
            x=[f"layer {layer}" for layer in layers],
            y=mean.tolist(),
            error_y={"type": "data", "symmetric": False, "array": (upper - mean).clip(0).tolist(), "arrayminus": [0.0] * len(layers)},
            marker_color=GOOD_COLOUR,
            # One layer's bar would else fill the figure.
            width=min(0.65, 0.18 * len(layers)),
            text=[f"{value:.1%}" for value in mean],
            textposition="inside" if len(layers) < 9 else "none",
            hovertemplate="%{x}: %{y:.3f}<extra></extra>",
        )
    )
    figure.update_layout(title="Edit size on held-out texts", height=280, showlegend=False)
    figure.update_yaxes(title="length of the move, in lengths of the token (‖Δ‖ / ‖h‖)", rangemode="tozero")
    rows: list[dict[str, Any]] = [
        {"layer": layer, "mean": float(mean[i]), "95 % of tokens below": float(upper[i]), "cosine": float(arrays["edit_cosine"][i])}
        for i, layer in enumerate(layers)
    ]
    says = f"Tokens move by {mean.min():.1%} to {mean.max():.1%} of their length on average ({held or 'the fit'} rows, all tokens)."
    return Picture(
        "edit-size", figure, rows, says, "The whisker ends where 95 % of tokens lie below. Under a thousandth, the edit does nothing."
    )


def _moved_picture(arrays: Arrays, layer: int, held: int) -> Picture:
    before, after, good = arrays[f"projection_before[{layer}]"], arrays[f"projection_after[{layer}]"], arrays["projection_is_good"]
    rows = [
        {
            "row": j,
            "answer": "good" if is_good else "bad",
            "kept, before": a[0],
            "dropped, before": a[1],
            "kept, after": b[0],
            "dropped, after": b[1],
        }
        for j, (is_good, a, b) in enumerate(zip(good.tolist(), before.tolist(), after.tolist()))
    ]
    says = f"Layer {layer}, {held or 'the fit'} rows: last tokens of good and bad answers on one kept and one dropped direction."
    return Picture(
        f"moved-{layer}",
        moved(before, after, good, layer),
        rows,
        says,
        "The edit stretches along the kept axis and flattens the dropped one.",
    )


def moved(before: np.ndarray, after: np.ndarray, is_good: np.ndarray, layer: int) -> go.Figure:
    """Held-out answers on the leading kept direction and the leading dropped one, before and after, on the same axes."""
    figure = make_subplots(rows=1, cols=2, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.05)
    for column, points in ((1, before), (2, after)):
        for name, mask, colour, symbol in (("good", is_good, GOOD_COLOUR, "circle"), ("bad", ~is_good, BAD_COLOUR, "x")):
            figure.add_scatter(
                row=1,
                col=column,
                x=points[mask, 0].tolist(),
                y=points[mask, 1].tolist(),
                mode="markers",
                name=f"{name} n={int(mask.sum())}",
                showlegend=column == 1,
                marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.8},
            )
    figure.update_layout(title=f"Held-out answers, layer {layer}", height=340)
    when_below(figure, "leading kept direction")
    figure.update_yaxes(title="leading dropped direction", row=1, col=1)
    return figure


def when_below(figure: go.Figure, title: str) -> None:
    """Say before and after under the two halves of `moved`: above them stands the legend."""
    for column, when in ((1, "before"), (2, "after")):
        figure.update_xaxes(title=f"{when}: {title}", matches="x", col=column)


def _overlap_picture(arrays: Arrays, layers: Sequence[int]) -> Picture:
    found = [
        Line(f"layer {layer}", list(range(1, len(arrays[f"cosines[{layer}]"]) + 1)), arrays[f"cosines[{layer}]"].tolist(), 1 + i % 5)
        for i, layer in enumerate(layers)
    ]
    figure = lines("Overlap of kept and dropped space", found, "pair of directions", "cosine")
    figure.update_yaxes(range=[-0.02, 1.02])
    figure.add_hline(y=1.0, line={"color": PLACEBO_COLOUR, "dash": "dot", "width": 1})
    rows = [{"series": line.name, "pair": x, "cosine": y} for line in found for x, y in zip(line.x, line.y)]
    says = f"Net size ‖A Aᵀ − B Bᵀ‖: {', '.join(f'{size:.2f}' for size in arrays['net_size'])}."
    return Picture(
        "overlap", figure, rows, says, "At 1 a direction is kept and dropped alike, and cancels. Only what is below 1 edits anything."
    )
