"""What the released loop over canonical examples does otherwise, defects included (docs/methods/senses.md §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob

# The released chunks have 500 tokens and their KL is a sum; other lengths are weighted to the same pull per position.
RELEASED_CHUNK = 500


@dataclass(frozen=True)
class CanonicalCompat:
    """Switches of the loop over canonical examples; the defaults are ours."""

    accumulate: Literal["fixed", "official"] = knob(
        "fixed", label="Accumulation", help="fixed: a step follows the mean gradient of its group. official: it sees only the last example."
    )
    kl_direction: Literal["p0_to_p", "p_to_p0"] = knob(
        "p0_to_p", label="Direction of the KL", help="p0_to_p is KL(before‖after), ours and as released; p_to_p0 is as the paper writes it."
    )
    kl_reduce: Literal["sum", "mean"] = knob(
        "sum",
        label="KL over positions",
        help="sum: ours and as released, scaled to a chunk of 500 tokens. mean: per token, about 500 times weaker.",
    )
    optimiser: Literal["adam", "adam8bit"] = knob(
        "adam", label="Optimiser", help="Plain Adam, or Adam in 8 bits, which needs bitsandbytes: without it plain Adam steps in."
    )
    ball_inequality: Literal["at most", "below"] = knob(
        "at most", label="Edge of the ball", help="Whether an epoch whose loss rises by exactly ε may be kept: at most ε, or below ε."
    )
