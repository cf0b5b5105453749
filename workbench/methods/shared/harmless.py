"""At which dose does an edit leave neutral text alone? For defaults that hold from 3 million to 8 billion parameters."""

from __future__ import annotations

import math

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import FitFailed
from workbench.methods.shared.ground import few_texts
from workbench.methods.shared.validation import neutral_kl
from workbench.models.base import LanguageModel

MOST_DAMAGE = 0.08
"""KL(unedited ‖ edited) a token of neutral text, in nats, of the few texts that are looked at: others stay below .1."""
_AIM = 0.06
_LEAST = 1e-3


def harmless_dose(model: LanguageModel, edit: Edit, demonstrations: Demonstrations, seed: int) -> tuple[float, float]:
    """The dose, at most that of the edit, at which neutral text moves by no more than `MOST_DAMAGE`, and by how much it moves there.

    KL grows with about the square of a small dose, so each look says where the next one is; three do as a rule.

    Raises:
        FitFailed: the edit breaks neutral text so far that its damage is no number. Others: as `few_texts`.
    """
    ground, dose = few_texts(model, demonstrations, seed), edit.dose
    while True:
        damage = finite(float(neutral_kl(model, [(edit.scaled(dose),)], ground)[0]), edit)
        if damage <= MOST_DAMAGE or dose < _LEAST:
            return dose, damage
        dose *= math.sqrt(_AIM / damage)


def finite(damage: float, edit: Edit) -> float:
    """The damage that an edit does to neutral text.

    Raises:
        FitFailed: it is no finite number, as where float16 overflows.
    """
    if math.isfinite(damage):
        return damage
    raise FitFailed(
        f"The {edit.header.method} edit moves neutral text by {damage} nats a token, which is no finite number: activations overflow.",
        "Load the model in float32 or bfloat16, or set a smaller strength.",
    )
