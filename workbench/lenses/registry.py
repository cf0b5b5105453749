"""The lenses by name. A module is imported when a lens is first used: TransformerLens's tools are slow to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

from workbench.errors import UnknownName
from workbench.methods.registry import Obstacle
from workbench.models.base import LanguageModel

Network = Literal["bridge", "backpack", "any"]
# Where a lens is, and what it looks at: TransformerLens's bridge, the senses of a Backpack, or activations that every network has.
_PLACES: dict[str, tuple[str, Network]] = {
    "attention": ("workbench.lenses.attention", "bridge"),
    "logit_lens": ("workbench.lenses.logit_lens", "bridge"),
    "direct_attribution": ("workbench.lenses.attribution", "bridge"),
    "activation_patching": ("workbench.lenses.patching", "bridge"),
    "attribution_patching": ("workbench.lenses.patching", "bridge"),
    "head_scores": ("workbench.lenses.heads", "bridge"),
    "name_movers": ("workbench.lenses.heads", "bridge"),
    "head_ablation": ("workbench.lenses.ablation", "bridge"),
    "circuit": ("workbench.lenses.circuits", "bridge"),
    "concept_meter": ("workbench.lenses.concept_meter", "any"),
    "demonstration_geometry": ("workbench.lenses.geometry", "any"),
    "locate": ("workbench.lenses.locate", "any"),
    "senses": ("workbench.lenses.senses", "backpack"),
    "sense_reading": ("workbench.lenses.senses", "backpack"),
}


def lens_names() -> tuple[str, ...]:
    """Names of the lenses, in the order in which people are shown them."""
    return tuple(_PLACES)


def lens(name: str) -> Callable[..., Any]:
    """The function behind a lens; its first argument is the model.

    Raises:
        UnknownName: there is no such lens.
    """
    return getattr(importlib.import_module(_place(name)[0]), name)


def obstacles_of(name: str, model: LanguageModel) -> tuple[Obstacle, ...]:
    """Why a lens cannot look at this model, and what to load; empty if it can.

    Raises:
        UnknownName: there is no such lens.
    """
    needs = _place(name)[1]
    if needs == "backpack" and not model.info.has_senses:
        return (Obstacle(f"It needs a Backpack; {model.info.name} has no senses.", "Load embedded-backpack."),)
    if needs == "bridge" and model.info.has_senses:
        return (Obstacle(f"It runs on TransformerLens's bridge, which {model.info.name} lacks.", "Load embedded or another such model."),)
    return ()


def _place(name: str) -> tuple[str, Network]:
    if name not in _PLACES:
        raise UnknownName("lens", name, _PLACES)
    return _PLACES[name]
