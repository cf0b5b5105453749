"""The shuffled control: is it the link between texts and sides that a fit learns, or just the texts?

`shuffled` breaks that link before a fit; placebos of equal size are in `edits.placebo`. Ref: docs/methods/shared.md §7.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import RetouchError
from workbench.knobs import renamed
from workbench.methods.registry import get
from workbench.models.base import LanguageModel
from workbench.progress import Progress


def shuffled(demonstrations: Demonstrations, seed: int) -> Demonstrations:
    """Return the rows of split `fit` and `validation` with their meaning destroyed and their texts kept.

    Half of the rows swap positive and negative (seeded, within each split, so the difference of means cancels); labels
    are permuted.
    """
    rng = np.random.default_rng(seed)
    rows = list(demonstrations.rows)
    for split in ("fit", "validation"):
        mine = rng.permutation([i for i, row in enumerate(rows) if row.split == split])
        labels = [rows[i].label for i in rng.permutation(mine)]
        for order, i in enumerate(mine):
            row = replace(rows[i], label=labels[order])
            rows[i] = replace(row, positive=row.negative, negative=row.positive) if order % 2 else row
    return replace(demonstrations.with_rows(rows), name=f"{demonstrations.name}, labels shuffled")


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
        fitted = method.fit(model, shuffled(demonstrations, seed), config, seed=edit.header.seed, progress=progress)
    except RetouchError as error:
        return f"{method.title} refused the shuffled demonstrations: {error}"
    return fitted.edit.scaled(edit.dose)
