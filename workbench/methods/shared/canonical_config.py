"""Knobs that every method fitted to canonical examples has: sense finetuning, LoRA, full finetuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.methods.registry import Notice
from workbench.methods.shared.canonical_compat import CanonicalCompat
from workbench.methods.shared.canonical_examples import LossChoice
from workbench.numerics.canonical_loop import has_adam8bit

GROUP = 5
LEAST_STEPS = 8


@dataclass(frozen=True)
class CanonicalConfig:
    """Knobs of the loop over canonical examples (docs/methods/senses.md §3.1). `compat` differs from method to method."""

    lr: float | None = knob(None, label="Learning rate", help="Step size of Adam; none chooses by method and size.", bounds=(1e-9, 1.0))
    epochs: int = knob(10, label="Epochs", help="How often every example is seen.", unit="passes", bounds=(1, 100))
    kl_weight: float = knob(
        0.3,
        label="Hold on neutral text",
        symbol="w",
        help="How strongly neutral text is held: the weight of KL(before‖after) on it. More keeps the rest as it was.",
        bounds=(0.0, 10.0),
        main=True,
    )
    loss: LossChoice = knob(
        "auto",
        label="Loss",
        help="What is wanted of every row: its positive (good), not its negative (bad), both alike (balance), or one over the "
        "other (good-v-bad). auto: each row's own, or what its sides suggest.",
    )
    ball: Literal["none", "1e-3", "1e-4", "1e-5"] = knob(
        "none",
        label="Degradation ball",
        symbol="ε",
        help="Keep the last epoch in which the loss on neutral text has risen by at most this share; none keeps the last epoch.",
        unit="share",
    )
    n_neutral: int = knob(
        32, label="Neutral chunks", help="How many chunks of neutral text hold the model.", unit="chunks", bounds=(0, 3000)
    )
    chunk_tokens: int = knob(128, label="Chunk length", help="How long a chunk of neutral text may be.", unit="tokens", bounds=(2, 512))
    group: int | None = knob(
        None,
        label="Examples per step",
        help="How many examples a step follows, by their mean gradient; none: 5, and fewer where there would else be fewer than 8 steps an "
        "epoch.",
        unit="examples",
        bounds=(1, 100),
    )
    epoch_rule: Literal["last", "best"] = knob(
        "last",
        label="Epoch kept",
        help="The last in the ball, or of those in the ball the one that succeeds most on the questions in other words.",
    )

    compat: CanonicalCompat = CanonicalCompat()

    def grouped(self, n_examples: int) -> int:
        """How many examples a step follows: four facts by five at a time would be one step an epoch."""
        few = GROUP if self.compat.accumulate == "official" else n_examples // LEAST_STEPS
        return self.group or max(1, min(GROUP, few))

    def keeps(self, rises: Sequence[float], successes: Sequence[float], kept: int) -> bool:
        """Say whether the newest epoch is kept in place of `kept`: it is in the ball, and by the rule `best` also succeeds more."""
        if self.ball != "none":
            edge = float(self.ball)
            below = self.compat.ball_inequality == "below"
            if not (rises[-1] < edge if below else rises[-1] <= edge):
                return False
        return self.epoch_rule == "last" or not successes or len(successes) == 1 or successes[-1] > successes[kept]

    def notices(self) -> tuple[Notice, ...]:
        """What was asked for and could not be had."""
        if self.compat.optimiser == "adam8bit" and not has_adam8bit():
            text = "8-bit Adam needs bitsandbytes, which is not installed; plain Adam was used, so numbers differ from the released ones."
            return (Notice("warning", text, "Install bitsandbytes, or set compat.optimiser=adam."),)
        return ()
