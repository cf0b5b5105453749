"""Choose which layers HPR edits: by what they gain on validation rows within a damage limit, or by probe accuracy as the paper does.

Ref: docs/methods/hpr.md §3.7. By benefit: rank layers by the benefit of editing each alone, then take the best prefix of that ranking;
ties go to fewer and to lower layers. A probe of high accuracy may never fire before the answer, so accuracy alone does not choose well
under neutral protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.errors import NoEffect
from workbench.methods.hpr.edit import HouseholderEdit
from workbench.methods.shared.validation import Measured, measured
from workbench.models.base import LanguageModel
from workbench.numerics.selection import chance_of_best
from workbench.progress import Progress


@dataclass(frozen=True)
class LayerSelection:
    """The layers taken, what was measured of every layer alone, and of every prefix of the ranking that was tried."""

    layers: tuple[int, ...]
    base: Measured
    alone: dict[int, Measured]
    prefixes: tuple[tuple[tuple[int, ...], Measured], ...]

    @property
    def is_better(self) -> bool:
        """Whether the layers taken beat the unedited model on validation prompts, beyond the best of so many null prefixes."""
        gains = np.array([found.margins for _, found in self.prefixes]) - np.array(self.base.margins)
        at = [layers for layers, _ in self.prefixes].index(self.layers)
        return bool(chance_of_best(gains)[at] <= 0.05)


def by_benefit(
    model: LanguageModel,
    edit: HouseholderEdit,
    rows: Demonstrations,
    neutral: Sequence[str],
    top_k: int,
    max_damage: float,
    progress: Progress,
) -> LayerSelection:
    """Measure every layer alone, then prefixes of the best, all as lanes of one batch.

    Raises:
        NoEffect: no prefix stays within the limit of damage.
    """
    layers = edit.layers
    base, *found = measured(
        model, [(), *((edit.restricted((layer,)),) for layer in layers)], rows, neutral, progress=progress.part(0.0, 0.6)
    )
    alone = dict(zip(layers, found))
    fine = [layer for layer in layers if alone[layer].damage <= max_damage]
    ranked = sorted(fine or layers, key=lambda layer: (-round(alone[layer].margin, 6), layer))[:top_k]
    sets = [tuple(sorted(ranked[: i + 1])) for i in range(len(ranked))]
    more = measured(model, [(edit.restricted(some),) for some in sets[1:]], rows, neutral, progress=progress.part(0.6, 1.0))
    tried = list(zip(sets, [alone[ranked[0]], *more]))
    within = [item for item in tried if item[1].damage <= max_damage]
    if not within:
        least = min(found.damage for _, found in tried)
        raise NoEffect(
            f"No choice of layers stays within KL {max_damage:g} on neutral text, the least is {least:.3g}; nothing is handed back.",
            "Raise max_damage or the neutral weight, or list layers.",
        )
    best = max(within, key=lambda item: (round(item[1].margin, 3), -len(item[0])))
    return LayerSelection(best[0], base, alone, tuple(tried))


def by_accuracy(accuracy: dict[int, float], top_k: int, least: float | None) -> tuple[int, ...]:
    """The best probes, ties to the lower layer; with `least` all probes above it (the best one if there are none)."""
    ranked = sorted(accuracy, key=lambda layer: (-accuracy[layer], layer))
    if least is not None:
        return tuple(sorted([layer for layer in ranked if accuracy[layer] >= least] or ranked[:1]))
    return tuple(sorted(ranked[:top_k]))
