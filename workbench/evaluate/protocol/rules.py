"""Which step of a run counts: the degradation ball, and the rules that the protocol can be run by.

    ρ = ℓ_G(step) / ℓ_G(0);   in the ball of ε:  ρ ≤ 1 + ε   (released: ρ < 1 + ε on validation, ≤ in the test report)

Ref: docs/methods/senses.md §9.1, §9.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.data.demonstrations import Split
from workbench.errors import BadKnob
from workbench.evaluate.protocol.compat import OFFICIAL, RulesCompat
from workbench.knobs import as_released, knob
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel


@dataclass(frozen=True)
class Rules:
    """Knobs of the protocol."""

    epoch_rule: Literal["last", "best"] = knob(
        "last",
        label="Epoch that counts",
        help="The last one in the ball, or of those in the ball the one that succeeds most (flatters on the test pair).",
    )
    beta_data: Literal["all", "half"] = knob(
        "all",
        label="Text that chooses β",
        help="Ensemble: choose β on all neutral text, as released, or on one half and report the rise on the other.",
    )

    compat: RulesCompat = as_released(OFFICIAL)

    def hard(self, pair: Split) -> tuple[Split, ...]:
        """Return the splits whose hard negatives are measured beside a pair."""
        found: dict[str, tuple[Split, ...]] = {"same": (pair,), "validation": ("validation",), "both": ("validation", "test")}
        return found[self.compat.hard_negatives]

    def strict(self, pair: Split) -> bool:
        """Say whether the edge of the ball lies outside it on a pair."""
        edge = self.compat.ball_inequality
        return edge == "below" or (edge == "below on validation" and pair == "validation")

    def rounding(self, model: LanguageModel) -> torch.dtype | None:
        """Return what logits are rounded to before they are scored; None leaves them.

        Raises:
            BadKnob: bfloat16 for a Backpack, which is scored in float32 in the released code too.
        """
        dtype, is_backpack = self.compat.score_dtype, isinstance(model, BackpackModel)
        if dtype == "bfloat16" and is_backpack:
            raise BadKnob(f"score_dtype = bfloat16 with {model.info.name}, a Backpack: those are scored in float32.", "Leave it open.")
        return None if dtype == "float32" or is_backpack else torch.bfloat16

    def step(
        self, rhos: Sequence[float], successes: Sequence[float], epsilon: float, pair: Split, cap: int | None = None, unbroken: bool = False
    ) -> int:
        """Return the step of a run that counts at ε: among admissible ones the last, or the first of those that succeed most."""
        steps = admissible(rhos, epsilon, cap, unbroken, self.strict(pair))
        return steps[-1] if self.epoch_rule == "last" else max(steps, key=lambda step: (successes[step], -step))


OURS = Rules()


def in_ball(rho: float, epsilon: float, strict: bool = False) -> bool:
    """Say whether a ratio of general losses is in the ball; what is not finite is outside every ball."""
    return math.isfinite(rho) and (rho < 1 + epsilon if strict else rho <= 1 + epsilon)


def admissible(rhos: Sequence[float], epsilon: float, cap: int | None = None, unbroken: bool = False, strict: bool = False) -> list[int]:
    """Return the steps in the ball, at most `cap`, and with all smaller steps in the ball too if `unbroken`.

    Step 0 is admissible for every ε > 0, whatever the rest does.
    """
    found = [0]
    for step in range(1, len(rhos) if cap is None else min(cap + 1, len(rhos))):
        if in_ball(rhos[step], epsilon, strict):
            found.append(step)
        elif unbroken:
            break
    return found


def last_in_ball(rhos: Sequence[float], epsilon: float, cap: int | None = None, unbroken: bool = False, strict: bool = False) -> int:
    """Return the last admissible step. Admissible steps are nested in ε; the success at the last of them need not grow with ε."""
    return admissible(rhos, epsilon, cap, unbroken, strict)[-1]
