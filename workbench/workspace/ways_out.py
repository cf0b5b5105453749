"""The way out of an obstacle: a set or a model with which a method can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from workbench.errors import BadDemonstrations, Obstructed
from workbench.methods.registry import Method
from workbench.models.base import LanguageModel
from workbench.workspace.shelf import Shelf


@final
@dataclass(frozen=True)
class WayOut:
    """Load this model, or, where the model is not in the way, take this set (its id)."""

    model: str = ""
    data: str = ""


def model_way_out(known: Method, model: LanguageModel) -> str:
    """The model that ships on which the method can run, where this one is in its way; empty where it is not."""
    if not known.obstacles_of(model):
        return ""
    return "embedded-backpack" if known.needs.senses else "embedded"


def way_out(known: Method, model: LanguageModel, demos: Shelf) -> WayOut:
    """What to change so that a method can run: the model first, then the set, of those at hand one's own before those that ship.

    It looks at one set after another, each as closely as the method does before a fit.

    Raises:
        Obstructed: none of the sets will do.
    """
    if other := model_way_out(known, model):
        return WayOut(model=other)
    for offer in sorted(demos.list(), key=lambda offer: offer.is_shipped):
        try:
            rows = demos(offer.id)
        except BadDemonstrations:  # a damaged version; Demonstrations says so
            continue
        if not known.obstacles(model, rows):
            return WayOut(data=offer.id)
    raise Obstructed(f"No set at hand will do for {known.title}.", f"{known.needs.in_words} Make or import such a set on Demonstrations.")
