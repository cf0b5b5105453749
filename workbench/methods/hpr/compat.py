"""What the released code of HPR does otherwise, defects included (docs/methods/hpr.md §5): the record that official-compat folds in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.numerics.angle_training import Checkpoint, WarmUp


@dataclass(frozen=True)
class HprCompat:
    """Switches between our HPR and the released code's; the defaults are ours."""

    formula: Literal["closed_form", "official"] = knob(
        "closed_form",
        label="Formula",
        help="official: a sum of the activation and its mirror image by an angle that float32 cannot tell from 5e-4 or less, in training "
        "too; tokens nearer than that to the hyperplane lose length.",
    )
    positions: Literal["released"] | None = knob(
        None, label="Where, as released", help="released: every token of a given text, but only the last of each call while generating."
    )
    clamp_angle: bool = knob(True, label="Clamp the angle", help="To half a turn at most, at doses above 1.")
    checkpoint: Checkpoint = knob(
        "per_module",
        label="Checkpoint",
        help="per_module: each probe and each network at its own best. joint_probe_accuracy: all at the epoch of the best mean probe "
        "accuracy, with one gradient clip over all layers.",
    )
    warm_up: WarmUp = knob(
        "from_first_step",
        label="Warm-up",
        help="Whether the first step already has a rate, or none (from_zero), as transformers' Trainer gives it.",
    )
    ident_coordinates: float | None = knob(
        None,
        label="Coordinates alike",
        help="Skip pairs with this share of identical coordinates, in place of near ones.",
        bounds=(0.0, 1.0),
    )
    last_block_fit: Literal["resid_post", "ln_final"] = knob(
        "resid_post", label="Last block is read", help="Where it is edited, or behind the network's final norm (ln_final)."
    )


OFFICIAL = HprCompat(
    formula="official", positions="released", clamp_angle=False, checkpoint="joint_probe_accuracy", warm_up="from_zero",
    ident_coordinates=0.75, last_block_fit="ln_final",
)  # fmt: skip
