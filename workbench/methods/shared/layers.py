"""Which layers a config means, and which are worth trying in a choice by validation, in a model of any depth."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from workbench.models.base import ModelInfo

SMALL = 30_000_000
"""Parameters below which a network takes other defaults: the embedded ones have 3 million."""
STARTS = (1 / 3, 1 / 2, 2 / 3, 5 / 6)


@runtime_checkable
class FitsAt(Protocol):
    """A config that says before any fit which layers it will be fitted at."""

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """Layers; empty where finding them is a part of the fit."""
        ...


def single_layers(n_layers: int) -> tuple[tuple[int, ...], ...]:
    """One layer a third, half, two thirds and five sixths of the way up."""
    return tuple((start,) for start in sorted({min(n_layers - 1, round(n_layers * at)) for at in STARTS}))


def layer_pairs(n_layers: int) -> tuple[tuple[int, ...], ...]:
    """Each of `single_layers` with the layer above it, where there is one."""
    return tuple((start, start + 1) for (start,) in single_layers(n_layers) if start + 1 < n_layers)
