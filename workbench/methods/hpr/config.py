"""Knobs and presets of HPR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench.knobs import as_released, knob
from workbench.methods.hpr.compat import OFFICIAL, HprCompat
from workbench.methods.shared.gating import TRIED_GATES, GateKind
from workbench.methods.shared.layers import layer_pairs, single_layers
from workbench.methods.shared.reading import read_knob
from workbench.methods.shared.sparing import HELP, SpareKind
from workbench.models.base import ModelInfo


@dataclass(frozen=True)
class HprConfig:
    """Knobs of HPR."""

    FORMER: ClassVar[Mapping[str, tuple[str, Mapping[str, str]]]] = {"pairing": ("read", {"aligned": "each"})}

    top_k: int = knob(
        5, label="Layers at most", symbol="k", help="How many layers may be edited.", unit="layers", bounds=(1, 400), main=True
    )
    select: Literal["benefit", "accuracy", "threshold"] = knob(
        "benefit",
        label="Layers by",
        help="benefit: layers that help on validation rows within the damage limit. accuracy: the best probes, as the paper does. "
        "threshold: all probes above the least.",
    )
    neutral_weight: float = knob(
        0.1,
        label="Neutral protection",
        help="Neutral text joins the positive side with this weight, so that the gate leaves ordinary text alone; 0 as in the paper.",
        bounds=(0.0, 10.0),
        unit="times the negatives",
        main=True,
    )
    layers: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Layers",
        help="Edit exactly these; none: by the selection, in models of 30 million parameters and more around the one that a look at all "
        "finds.",
        bounds=(0, 399),
    )
    max_damage: float = knob(
        0.02,
        label="Damage at most",
        help="How far the selection lets the next tokens of held-out neutral text change.",
        unit="nats per token",
        bounds=(0.0, 10.0),
    )
    min_accuracy: float = knob(
        0.7, label="Least accuracy", help="Which probes the selection by threshold takes.", unit="share right", bounds=(0.5, 1.0)
    )
    n_mlp: int = knob(
        4,
        label="Depth of the angle network",
        help="How many linear layers the network that predicts angles has.",
        unit="layers",
        bounds=(1, 6),
    )
    mlp_width: int | None = knob(
        None,
        label="Width of the angle network",
        symbol="h",
        help="Units of its inner layers; none: each has half of the one before.",
        unit="units",
        bounds=(16, 100000),
    )
    lr: float | None = knob(
        None,
        label="Learning rate",
        help="Step size of AdamW; none: 5e-4 at 4096 dimensions, more for narrower models.",
        bounds=(1e-5, 1e-1),
    )
    epochs: int = knob(5, label="Epochs", help="How often every pair is seen.", unit="passes", bounds=(1, 50))
    min_steps: int = knob(
        300,
        label="Steps at least",
        help="More passes where few pairs would give fewer steps; 0 as in the paper.",
        unit="steps",
        bounds=(0, 10000),
    )
    batch_pairs: int = knob(
        16, label="Pairs a step", symbol="B", help="How many token pairs a step follows.", unit="pairs", bounds=(1, 256)
    )
    n_pairs: int = knob(
        2000, label="Token pairs at most", help="Drawn with the seed; memory grows with them.", unit="pairs", bounds=(2, 1_000_000)
    )
    warmup_ratio: float = knob(
        0.05,
        label="Warm-up",
        help="For how much of the training the step size rises from nothing.",
        unit="share of the steps",
        bounds=(0.0, 0.9),
    )
    weight_decay: float = knob(
        0.0,
        label="Weight decay",
        help="How far weights are pulled to 0, in shares of the step size; the paper has none.",
        bounds=(0.0, 0.1),
    )
    clip_norm: float = knob(
        1.0, label="Gradient clip", help="Longest gradient that a step follows, a probe and a network at a time.", bounds=(1e-6, 1e6)
    )
    read: Literal["each", "last"] = read_knob("each", "last", default="each")
    references: bool = knob(True, label="All references", help="Pair every true with every false reference of a question.")
    ident_threshold: float = knob(
        1e-3, label="Pairs alike", help="Skip pairs of activations nearer than this.", unit="share of their length", bounds=(0.0, 1.0)
    )
    positions: Literal["all", "last", "prompt", "generated"] = knob("all", label="Where", help="Positions that the edit acts on.")
    gate: GateKind = knob("none", label="Second gate", help="A probe against neutral text beside the method's own: hard, or soft.")
    spare: SpareKind = knob("sinks", label="Spared tokens", help=HELP)
    compat: HprCompat = as_released(OFFICIAL)

    @property
    def where(self) -> str:
        """Positions that the edit acts on."""
        return self.compat.positions or self.positions

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The layers that are named; without any the fit chooses."""
        return self.layers or ()


def tries(info: ModelInfo) -> Mapping[str, tuple[Any, ...]]:
    """The knobs that a choice by validation tries."""
    layers = (*single_layers(info.n_layers), *layer_pairs(info.n_layers))
    return {"layers": layers, "neutral_weight": (0.03, 0.1, 0.3), "gate": TRIED_GATES}


_PAPER: Mapping[str, Any] = {"neutral_weight": 0.0, "select": "accuracy", "lr": 5e-4, "min_steps": 0, "spare": "none"}
PRESETS: Mapping[str, Mapping[str, Any]] = {"protected": {}, "paper": _PAPER, "official-compat": {**_PAPER, "compat": "official"}}
