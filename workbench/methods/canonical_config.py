"""Knobs that every method fitted to canonical examples has: sense finetuning, LoRA, full finetuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.methods.canonical import LossChoice


@dataclass(frozen=True)
class CanonicalConfig:
    """Knobs of the loop over canonical examples (specs/canonical.md §4)."""

    lr: float | None = knob(
        None, label="Learning rate", help="Step size of Adam; none chooses by method and size.", bounds=(1e-9, 1.0), main=True
    )
    epochs: int = knob(10, label="Epochs", help="Passes over the examples.", bounds=(1, 100), main=True)
    kl_weight: float = knob(
        0.3,
        label="Hold on neutral text",
        help="Weight of KL(before‖after) on neutral text; more keeps the rest as it was.",
        bounds=(0.0, 10.0),
        symbol="w",
        main=True,
    )
    loss: LossChoice = knob("auto", label="Loss", help="Of every row; auto takes each row's own, or what its sides suggest.")
    ball: Literal["none", "1e-3", "1e-4", "1e-5"] = knob(
        "none",
        label="Degradation ball",
        symbol="ε",
        help="Keep the last epoch in which the loss on neutral text has risen by at most this share; none keeps the last epoch.",
    )
    n_neutral: int = knob(32, label="Neutral chunks", help="How many chunks of neutral text hold the model.", bounds=(0, 3000))
    chunk_tokens: int = knob(128, label="Chunk length", help="Tokens of a neutral chunk at most.", bounds=(2, 512), unit="tokens")
    group: int = knob(5, label="Examples per step", help="Examples whose mean gradient makes a step.", bounds=(1, 100))
    compat: Literal["ours", "official"] = knob(
        "ours", label="Compatibility", help="official repeats the released code, its quirks included."
    )

    def keeps(self, rise: float) -> bool:
        """Whether an epoch with this relative rise of the general loss may be kept."""
        return self.ball == "none" or rise <= float(self.ball)
