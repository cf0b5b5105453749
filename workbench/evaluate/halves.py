"""What each row of a fit is worth, from fits on random halves of the rows: for methods that nothing is known of but that they fit.

Each draw splits the rows in two and fits both halves. Scores are regressed on who was in; what that is worth, halved, is to first order
what the fit on all rows loses without a row, which weighs twice as much among half as many. Ref: docs/methods/shared.md §9.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import BadKnob
from workbench.evaluate.slopes import Asked, margins
from workbench.knobs import knobs
from workbench.methods.registry import get
from workbench.models.base import LanguageModel
from workbench.progress import Progress, part_of_more
from workbench.shapes import Bool, Float

_LANES = 8


def by_halves(
    model: LanguageModel,
    demonstrations: Demonstrations,
    fit: Sequence[int],
    edit: Edit,
    config: Any,
    these: Asked,
    n_refits: int,
    progress: Progress,
) -> tuple[Float[np.ndarray, "demonstration row"], float]:
    """Influence of each row at the places `fit` on each scored row in nats, and its reliability.

    That is the rank correlation of the rows' means from every other draw with those from the draws between: 1 is no noise.

    Raises:
        BadKnob: fewer than four refits, or an odd number. Others: as the method's fit.
    """
    if n_refits < 4 or n_refits % 2:
        raise BadKnob(f"{n_refits} refits of halves.", "Give an even number of 4 or more: every draw is fitted on both of its halves.")
    config, draw = _held(edit, config), np.random.default_rng(edit.header.seed)
    chosen = np.zeros((n_refits, len(fit)), dtype=bool)
    edits: list[Edit] = []
    for at in range(n_refits):
        if at % 2 == 0:
            chosen[at, draw.permutation(len(fit))[: len(fit) // 2]] = True
        else:
            chosen[at] = ~chosen[at - 1]
        out = {fit[int(i)] for i in np.flatnonzero(~chosen[at])}
        half = demonstrations.with_rows(row for i, row in enumerate(demonstrations) if i not in out)
        part = progress.part(0.8 * at / n_refits, 0.8 * (at + 1) / n_refits)
        with part_of_more():
            edits.append(
                get(edit.header.method)
                .fit(model, half, config, seed=edit.header.seed, progress=part)
                .edit.dosed(edit.dose)
                .placed(edit.place)
            )
    parts = [edits[start : start + _LANES] for start in range(0, n_refits, _LANES)]
    told = [progress.part(0.8 + 0.2 * i / len(parts), 0.8 + 0.2 * (i + 1) / len(parts)) for i in range(len(parts))]
    scores = np.concatenate([margins(model, these, [(one,) for one in mine], tell)[0] for mine, tell in zip(parts, told)])
    draws = np.arange(n_refits) // 2 % 2
    ranks = [_worth(chosen[draws == half], scores[draws == half]).mean(1).argsort().argsort() for half in (0, 1)]
    return _worth(chosen, scores), float(np.corrcoef(ranks)[0, 1])


def _worth(chosen: Bool[np.ndarray, "fit demonstration"], scores: Float[np.ndarray, "fit row"]) -> Float[np.ndarray, "demonstration row"]:
    """Half of what it is worth to be among the chosen: the smallest weights of a linear law of who is in, scaled up where fits are few."""
    found, _, rank, _ = np.linalg.lstsq(chosen - 0.5, scores - scores.mean(0), rcond=1e-6)
    return 0.5 * found * max(1.0, (chosen.shape[1] - 1) / max(1, int(rank)))


def _held(edit: Edit, config: Any) -> Any:
    """The config with the layers that the fit found named, so that every refit acts where it did."""
    facts = edit.header.facts
    layers: list[int] = list(facts.get("layers") or ([facts["layer"]] if "layer" in facts else []))
    values = {
        item.name: tuple(layers) if item.kind == "ints" else layers[0]
        for item in knobs(type(config))
        if item.names_layers and getattr(config, item.name) is None and (item.kind == "ints" or len(layers) == 1)
    }
    return replace(config, **values) if layers else config
