"""What a fit to canonical examples records after each epoch, and the report made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.methods.registry import Curve, Notice
from workbench.methods.shared.canonical_examples import CanonicalItem
from workbench.numerics.canonical_losses import succeeds


@dataclass
class Epochs:
    """One value an epoch, the unedited model first; `rise` is the general loss's relative rise, NaN where there is no neutral text."""

    train: list[float] = field(default_factory=list[float])
    rise: list[float] = field(default_factory=list[float])
    success: list[float] = field(default_factory=list[float])
    kept: int = 0

    def checked(self, losses: Sequence[float], items: Sequence[CanonicalItem]) -> None:
        """Record the share of other examples whose evaluation loss counts as a success."""
        if items:
            self.success.append(sum(succeeds(loss, item.threshold) for loss, item in zip(losses, items)) / len(items))

    def scalars(self, n_fit: int, n_checks: int, n_general_tokens: int, seconds: float) -> dict[str, float]:
        """Before and after, at the epoch that was kept."""
        found = {
            "n_fit": float(n_fit),
            "kept_epoch": float(self.kept),
            "loss_before_nats": self.train[0],
            "loss_after_nats": self.train[self.kept],
            "general_loss_rise": self.rise[self.kept],
            "n_general_tokens": float(n_general_tokens),
            "seconds": seconds,
        }
        if self.success:
            found |= {"n_checks": float(n_checks), "success_before": self.success[0], "success_after": self.success[self.kept]}
        return found

    def curves(self) -> tuple[Curve, ...]:
        """The three lines over epochs, as far as they were measured."""
        x = tuple(float(epoch) for epoch in range(len(self.train)))
        made = [Curve("training loss", x, tuple(self.train), "epoch", "nats per token")]
        if not math.isnan(self.rise[0]):
            made.append(Curve("general loss rise", x, tuple(self.rise), "epoch", "ρ − 1"))
        if self.success:
            made.append(Curve("success in other words", x, tuple(self.success), "epoch", "share"))
        return tuple(made)

    def notices(self, *, has_neutral: bool, borrowed: bool) -> list[Notice]:
        """What went wrong, and which neutral text held the model."""
        found: list[Notice] = []
        if not has_neutral:
            text = "No row has neutral text, so nothing holds the rest of the model back."
            found.append(Notice("warning", text, "Add rows of role general."))
        elif borrowed:
            found.append(Notice("note", "The set has no neutral text; the embedded world's holds the model.", "Add rows of role general."))
        if self.kept == 0:
            hint = "Allow a wider ball, a smaller learning rate, or more hold."
            found.append(Notice("warning", "No epoch stayed in the ball, so the edit is empty.", hint))
        elif self.train[self.kept] >= self.train[0]:
            found.append(Notice("warning", "The training loss did not fall.", "Raise the learning rate or the number of epochs."))
        return found
