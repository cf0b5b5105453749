"""The protocol's control: would any change of this size in the same place do the same, at the same degradation?

The reported edit is turned into a random direction (Haar), and shrunk by halves until it is in the ball. Senses turn in the residual
stream, weights on their narrower side; so size, rank and place stay, and meaning goes.
Ref: docs/methods/senses.md §9.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workbench.edits.base import Edit
from workbench.edits.placebo import rotated, rotation
from workbench.evaluate.protocol.measure import CanonicalTask, EditMeter, StepMeasured
from workbench.evaluate.protocol.rules import in_ball
from workbench.methods.shared.canonical_examples import Chunk
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.models.base import LanguageModel

CONTROL_DOSES = (1.0, 0.5, 0.25, 0.125, 0.0625)


def random_direction(
    model: LanguageModel, task: CanonicalTask, edit: Edit, base: StepMeasured, general: Sequence[Chunk], epsilon: float, seed: int
) -> tuple[StepMeasured, float]:
    """Measure an edit's random turn at its largest dose in the ball; return that and the dose (0: none, the unedited model)."""
    placebo, meter = turned_edit(edit, seed), EditMeter(model, task, general)
    for dose in CONTROL_DOSES:
        if in_ball(meter.general(placebo.scaled(dose)) / base.general, epsilon):
            return meter.measure(placebo.scaled(dose)), dose
    return base, 0.0


def turned_edit(edit: Edit, seed: int) -> Edit:
    """Return an edit in a random direction; all vectors of a sense edit turn by one rotation, which keeps their sizes and angles."""
    if not isinstance(edit, SenseEdit):
        return rotated(edit, seed)
    turn = rotation(edit.delta.shape[1], seed).to(edit.delta.device)
    return replace(edit, delta=(edit.delta.double() @ turn.T).to(edit.delta.dtype))
