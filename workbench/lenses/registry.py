"""The lenses by name. A module is imported when a lens is first used: TransformerLens's tools are slow to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from workbench.errors import UnknownName

_PLACES = {
    "attention": "workbench.lenses.attention",
    "logit_lens": "workbench.lenses.logit_lens",
    "direct_attribution": "workbench.lenses.attribution",
    "activation_patching": "workbench.lenses.patching",
    "attribution_patching": "workbench.lenses.patching",
    "head_scores": "workbench.lenses.heads",
    "name_movers": "workbench.lenses.heads",
    "head_ablation": "workbench.lenses.ablation",
    "circuit": "workbench.lenses.circuits",
    "concept_meter": "workbench.lenses.concept_meter",
    "demonstration_geometry": "workbench.lenses.geometry",
    "senses": "workbench.lenses.senses",
    "sense_reading": "workbench.lenses.senses",
}


def names() -> tuple[str, ...]:
    """Names of the lenses, in the order in which people are shown them."""
    return tuple(_PLACES)


def lens(name: str) -> Callable[..., Any]:
    """The function behind a lens; its first argument is the model.

    Raises:
        UnknownName: there is no such lens.
    """
    if name not in _PLACES:
        raise UnknownName("lens", name, _PLACES)
    return getattr(importlib.import_module(_PLACES[name]), name)
