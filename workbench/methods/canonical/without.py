"""Trained weights without each example in turn: the fit again with the example passed over, and all that was drawn held.

Start, orders, groups, neutral chunks, steps and the kept epoch are those of the fit, so what differs is the example. A fit each; gradients
along one fit would be cheaper, and agree with this on some sets alone (docs/methods/shared.md §9.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import Obstructed
from workbench.methods.canonical.training import LoopConfig, LoopObjective, Trainee, epochs, loop_settings, neutral_halves
from workbench.methods.shared.canonical_examples import canonical_items, training_rows
from workbench.models.base import LanguageModel
from workbench.progress import Progress

_NEAR = 1e-3
"""Share of an edit by which the same fit, done again, may differ: threads and machines add up in other orders."""


def refits(
    model: LanguageModel,
    demonstrations: Demonstrations,
    edit: Edit,
    config: LoopConfig,
    make: Callable[[], Trainee],
    lr: float,
    *,
    progress: Progress,
) -> Iterator[tuple[int, Edit]]:
    """The edit fitted without each example of split `fit` in turn, at the edit's dose.

    Args:
        make: weights as they stand before the fit. lr: where the config names none.

    Raises:
        Obstructed: the whole fit does not come out as the edit here. Others: as the fit.
    """
    rows, head = training_rows(demonstrations), edit.header
    places = {id(row): at for at, row in enumerate(demonstrations.split("fit"))}
    items, (held, _, _) = canonical_items(model, rows, config.loss), neutral_halves(model, demonstrations, config)
    settings = loop_settings(config, lr, len(items))

    def ends(out: int | None, last: int, tell: Progress) -> Iterator[tuple[int, Edit]]:
        trainee = make()
        objective = LoopObjective(model, trainee, items, held, config)
        told = "Fitting it again" if out is None else f"Fitting without demonstration {out + 1} of {len(items)}"
        for epoch in epochs(objective, trainee, len(items), len(held), settings, head.seed, out):
            tell(epoch / last, told)
            yield epoch, trainee.edit(head)
            if epoch == last:
                return

    parts = [progress.part(i / (len(items) + 1), (i + 1) / (len(items) + 1)) for i in range(len(items) + 1)]
    kept = _kept(edit, ends(None, config.epochs, parts[0]))
    for out, row in enumerate(rows):
        *_, (_, found) = ends(out, kept, parts[out + 1])
        yield places[id(row)], found.dosed(edit.dose)


def _kept(edit: Edit, again: Iterator[tuple[int, Edit]]) -> int:
    """The epoch at which the same fit, done again, is the edit."""
    own = edit.tensors()
    size = sum(float(x.double().square().sum()) for x in own.values()) ** 0.5

    def gap(other: Edit) -> float:
        return sum(float((x.double() - other.tensors()[name].double()).square().sum()) for name, x in own.items()) ** 0.5

    far, kept = min((gap(other), epoch) for epoch, other in again)
    if far > _NEAR * size:
        told = f"Fitted again with the same seed, the edit differs by {far / size:.1%} of its size; {_NEAR:.1%} is allowed."
        raise Obstructed(told, "Fit it anew with this version of Retouch, and ask again.")
    return kept
