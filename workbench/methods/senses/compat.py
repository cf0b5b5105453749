"""What the released code of sense finetuning does otherwise, defects included (docs/methods/senses.md §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.methods.shared.canonical_compat import CanonicalCompat


@dataclass(frozen=True)
class SensesCompat(CanonicalCompat):
    """Switches between our sense finetuning and the released code's; the defaults are ours."""

    gvb_importance: Literal["add", "subtract"] = knob(
        "add",
        label="Importance of pairs",
        help="Of rows with the loss good-v-bad: senses that either side reads (add), or the good side's less the bad side's (subtract).",
    )
    pick_ineligible: Literal["no", "yes"] = knob(
        "no", label="Pick senses that are not read", help="Fill up the senses of an example with ones that it never reads, or leave them."
    )
    delta_dtype: Literal["float32", "float16"] = knob(
        "float32",
        label="Precision of the stored table",
        help="In float16 the file is half as large, and numbers are rounded to three digits.",
    )


OFFICIAL = SensesCompat(
    accumulate="official", optimiser="adam8bit", ball_inequality="below", gvb_importance="subtract", pick_ineligible="yes",
    delta_dtype="float16",
)  # fmt: skip
