"""A fit while it runs, in the quantities of its kind: a search over its calls, probes over their layers, training over its epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.figures.basic import Line, lines
from workbench.figures.picture import Picture, moving_pictures_of
from workbench.progress import Report

_HEIGHT = 280


def _told(history: Sequence[Report], *names: str) -> list[dict[str, Any]]:
    """The live values of the reports that have all of these."""
    return [dict(report.live) for report in history if all(name in report.live for name in names)]


@moving_pictures_of("call", "value", "best")
def searching(history: Sequence[Report]) -> tuple[Picture, ...]:
    """The best of a search over the number of calls made, not over how often it reported: a report may come after several calls."""
    told = _told(history, "call", "value", "best")
    calls = [int(row["call"]) for row in told]
    parts = [
        Line("last call tried", calls, [row["value"] for row in told], None),
        Line("best so far", calls, [row["best"] for row in told]),
    ]
    rows = [{"call": row["call"], "value": row["value"], "best": row["best"]} for row in told]
    says = f"After {calls[-1]} calls the best is {told[-1]['best']:.3g}."
    look_for = "Steps up that become rare: the search has found what it will find. A flat line from the first calls on: it finds nothing."
    return (Picture("live-search", lines("Best of the search so far", parts, "call", "objective", height=_HEIGHT), rows, says, look_for),)


@moving_pictures_of("probe_accuracy", "layers")
def probing(history: Sequence[Report]) -> tuple[Picture, ...]:
    """How well each layer's probe tells the sides apart by now, beside its first report in grey."""
    told = _told(history, "probe_accuracy", "layers")
    first, last = told[0], told[-1]
    parts = [Line("now", last["layers"], last["probe_accuracy"])]
    if len(told) > 1:
        parts.insert(0, Line("at first", first["layers"], first["probe_accuracy"], None))
    rows = [{"layer": layer, "accuracy": value} for layer, value in zip(last["layers"], last["probe_accuracy"])]
    best, at = max(zip(last["probe_accuracy"], last["layers"]))
    says = f"The probe of layer {at} is right in {best:.0%} of held-out rows."
    look_for = "Layers well above one half, which is guessing: there the sides can be told apart, and turned."
    figure = lines("Probes of the layers so far", parts, "layer", "held-out accuracy (share right)", height=_HEIGHT)
    return (Picture("live-probes", figure, rows, says, look_for),)


@moving_pictures_of("epoch", "loss", "general_loss_rise")
def training(history: Sequence[Report]) -> tuple[Picture, ...]:
    """The loss on the examples over epochs, and what it costs on neutral text."""
    told = _told(history, "epoch", "loss", "general_loss_rise")
    epochs = [int(row["epoch"]) for row in told]
    rows = [{"epoch": row["epoch"], "loss": row["loss"], "rise on neutral text": row["general_loss_rise"]} for row in told]
    loss = [Line("loss", epochs, [row["loss"] for row in told])]
    learnt = lines("Loss on the examples so far", loss, "epoch", "loss (nats)", height=_HEIGHT)
    cost = [Line("rise", epochs, [row["general_loss_rise"] for row in told], 2)]
    paid = lines("What it costs on neutral text so far", cost, "epoch", "rise of the loss (share)", height=_HEIGHT)
    return (
        Picture("live-loss", learnt, rows, look_for="It should fall and settle. A rise means that the steps are too large."),
        Picture("live-damage", paid, rows, look_for="Near zero, other text stays as it was."),
    )
