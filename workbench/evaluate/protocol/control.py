"""The protocol's control: would any change of this size in the same place do the same, at the same degradation?

The reported edit is turned into a random direction (Haar), and shrunk by halves until it is in the ball. Senses turn in the residual
stream, weights on their narrower side; so size, rank and place stay, and meaning goes.
Ref: docs/methods/senses.md §9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.evaluate.controls import rotated, rotation
from workbench.evaluate.protocol.measure import CanonicalTask, Chunk, EngineMeter, LogitsMeter, Measured, SenseMeter
from workbench.evaluate.protocol.rules import in_ball
from workbench.methods.canonical.finetuning import DeltaEdit, TwinTrainee
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight
from workbench.shapes import Logits, Tensor

DOSES = (1.0, 0.5, 0.25, 0.125, 0.0625)


def random_direction(
    model: LanguageModel, task: CanonicalTask, edit: Edit, base: Measured, general: Sequence[Chunk], epsilon: float, seed: int
) -> tuple[Measured, float]:
    """Measure an edit's random turn at its largest dose in the ball; return that and the dose (0: none, the unedited model)."""
    quick, whole = _measures(model, task, edit, general, seed)
    for dose in DOSES:
        if in_ball(quick(dose) / base.general, epsilon):
            return whole(dose), dose
    return base, 0.0


def _measures(
    model: LanguageModel, task: CanonicalTask, edit: Edit, general: Sequence[Chunk], seed: int
) -> tuple[Callable[[float], float], Callable[[float], Measured]]:
    """How to measure general text alone, and everything, at a dose of the turned edit."""
    if isinstance(edit, SenseEdit) and isinstance(model, BackpackModel):
        table, meter = turned(edit, seed), SenseMeter(model, task, general, edit.selection)
        return lambda dose: meter.general(edit.dose * dose * table), lambda dose: meter.measure_table(edit.dose * dose * table)
    placebo = rotated(edit, seed)
    if isinstance(edit, DeltaEdit):
        logits = LogitsMeter(task, general, model.device)
        run = lambda dose: _moved(model, placebo.scaled(dose))  # noqa: E731
        return lambda dose: logits.general(run(dose)), lambda dose: logits.measure(run(dose))
    engine, apart = EngineMeter(model, task, general), LogitsMeter(task, general, model.device)

    def logits_at(dose: float) -> Callable[[TokenBatch], Logits]:
        def run(batch: TokenBatch) -> Logits:
            with applied(model, placebo.scaled(dose)):
                return model.logits(batch)

        return run

    return lambda dose: apart.general(logits_at(dose)), lambda dose: engine.measure(placebo.scaled(dose))


def turned(edit: SenseEdit, seed: int) -> Tensor:
    """Return an edit's table with every vector turned by the same random rotation: equal sizes and angles, another direction."""
    return (edit.delta.double() @ rotation(edit.delta.shape[1], seed).to(edit.delta.device).T).to(edit.delta.dtype)


def _moved(model: LanguageModel, edit: Edit) -> Callable[[TokenBatch], Logits]:
    """A forward of a copy of the network whose parameters carry the edit: for what changes every weight."""
    ops = [op for op in edit.operations() if isinstance(op, AddToWeight) and op.site.kind == "param"]
    twin = TwinTrainee(model)
    twin.move({op.site.name: op.delta for op in ops if op.site.name is not None and isinstance(op.delta, Tensor)})
    return twin.logits
