"""What the released protocol does otherwise, defects included (docs/methods/senses.md §9.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob

EvalNorm = Literal["sum", "mean"]


@dataclass(frozen=True)
class RulesCompat:
    """Switches between our protocol and the released one; the defaults are ours."""

    fits: Literal["ours", "official"] = knob(
        "ours", label="Fits", help="official: methods that learn from canonical examples are fitted as their own released code does."
    )
    hard_negatives: Literal["same", "validation", "both"] = knob(
        "same",
        label="Hard negatives",
        help="Split of the texts that must stay: the same as the examples', always validation (it names entities that the edit never "
        "touched, so damage is understated), or both together.",
    )
    ball_inequality: Literal["at most", "below", "below on validation"] = knob(
        "at most",
        label="Edge of the ball",
        help="Whether a rise of exactly ε is in the ball (at most), or not, everywhere or on validation.",
    )
    score_dtype: Literal["float32", "bfloat16", "bfloat16 but for backpacks"] = knob(
        "float32",
        label="Precision of scores",
        help="In bfloat16 close answers tie, and a tie counts as balance; Backpacks are always scored in float32.",
    )
    eval_norm: EvalNorm = knob(
        "sum",
        label="Length of answers",
        help="Evaluate the summed loss of an answer's tokens, which thresholds are made for, or their mean, as trained.",
    )


OFFICIAL = RulesCompat(
    fits="official", hard_negatives="validation", ball_inequality="below on validation", score_dtype="bfloat16 but for backpacks"
)
