"""The shuffled control: is it the link between texts and sides that a fit learns, or just the texts?

`shuffled` breaks that link before a fit; placebos of equal size are in `edits.placebo`. Ref: docs/methods/shared.md §7.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Edit
from workbench.errors import RetouchError
from workbench.knobs import renamed
from workbench.methods.registry import get
from workbench.models.base import LanguageModel
from workbench.progress import Progress, part_of_more


def shuffled(demonstrations: Demonstrations, seed: int) -> Demonstrations:
    """Return the rows of split `fit` and `validation` with their meaning destroyed and their texts kept.

    Half of the rows with two sides swap them, texts and tagged references alike (seeded, within each split, so the difference of means
    cancels). What says a row's side, its label and its tags `concept:` and `class:`, is permuted among the rows that have such: it never
    reaches a neutral row.
    """
    rng = np.random.default_rng(seed)
    rows = list(demonstrations.rows)
    for split in ("fit", "validation"):
        mine = [i for i, row in enumerate(rows) if row.split == split]
        told = [i for i in mine if rows[i].label or _sides(rows[i])]
        for i, other in zip(told, [demonstrations[int(i)] for i in rng.permutation(told)]):
            kept = tuple(tag for tag in rows[i].tags if not tag.startswith(_SIDES))
            rows[i] = replace(rows[i], label=other.label, tags=(*kept, *_sides(other)))
        two_sided = [i for i in mine if rows[i].positive and rows[i].negative]
        for order, i in enumerate(rng.permutation(two_sided)):
            rows[i] = _swapped(rows[i]) if order % 2 else rows[i]
    return replace(demonstrations.with_rows(rows), name=f"{demonstrations.name}, labels shuffled")


_SIDES = ("concept:", "class:")
_OTHER = {"true": "false", "false": "true"}


def _sides(row: Demonstration) -> tuple[str, ...]:
    return tuple(tag for tag in row.tags if tag.startswith(_SIDES))


def _swapped(row: Demonstration) -> Demonstration:
    def other(tag: str) -> str:
        key, colon, text = tag.partition(":")
        return f"{_OTHER[key]}:{text}" if colon and key in _OTHER else tag

    return replace(row, positive=row.negative, negative=row.positive, tags=tuple(map(other, row.tags)))


def shuffled_fit(
    model: LanguageModel,
    edit: Edit,
    demonstrations: Demonstrations,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Edit | str:
    """Fit the edit's method with its own config on shuffled demonstrations; a refusal to fit is given as its words.

    Raises:
        UnknownMethod: the edit's method is not registered. Cancelled: somebody asked.
    """
    method = get(edit.header.method)
    config = method.configure(renamed(method.config, edit.header.config))
    try:
        with part_of_more():
            fitted = method.fit(model, shuffled(demonstrations, seed), config, seed=edit.header.seed, progress=progress)
    except RetouchError as error:
        return f"{method.title} refused the shuffled demonstrations: {error}"
    return fitted.edit.scaled(edit.dose).placed(edit.place).acting(edit.where)
