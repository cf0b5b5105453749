"""What the released LoRA and full finetuning do otherwise, defects included (docs/methods/senses.md §5): the records of official-compat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.methods.shared.canonical_compat import CanonicalCompat


@dataclass(frozen=True)
class LoopCompat(CanonicalCompat):
    """Switches of what trains weights through the network."""

    master_dtype: Literal["float32", "bfloat16"] = knob(
        "float32",
        label="Precision of trained weights",
        help="In bfloat16 small steps round to nothing: a weight near 0.02 moves by 6e-5 or not.",
    )


@dataclass(frozen=True)
class LoraCompat(LoopCompat):
    """Switches of LoRA."""

    lora_span: Literal["c", "c+1"] = knob(
        "c", label="Layers of the block", help="As many as the share says (c), or one more where there is one (c+1)."
    )


OFFICIAL_LOOP = LoopCompat(accumulate="official", optimiser="adam8bit", ball_inequality="below", master_dtype="bfloat16")
OFFICIAL_LORA = LoraCompat(accumulate="official", optimiser="adam8bit", ball_inequality="below", master_dtype="bfloat16", lora_span="c+1")
