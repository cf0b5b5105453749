"""What the released code of TaRot does otherwise, defects included (docs/methods/tarot.md §5): the record that official-compat folds in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob


@dataclass(frozen=True)
class TarotCompat:
    """Switches between our TaRot and the released code's; the defaults are ours."""

    optimizer: Literal["official_bo"] | None = knob(
        None,
        label="Optimizer as released",
        help="official_bo: a surrogate that collapses and an acquisition of the wrong sign, which together draw points at random.",
    )
    include_identity: bool = knob(True, label="Identity first", help="Evaluate the unedited model first, or never.")
    resample_shots: bool = knob(
        False, label="Redraw shots", help="Draw the demonstrations before each prompt anew at every call: the objective is then noisy."
    )
    value_bias: Literal["included", "excluded"] = knob(
        "included", label="Value bias", help="Turn the value bias too (included), or hold it still."
    )


OFFICIAL = TarotCompat(optimizer="official_bo", include_identity=False, resample_shots=True, value_bias="excluded")
