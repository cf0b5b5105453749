"""A fit whose edit is to act at a place that is told, in place of where its method would have it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import known_place
from workbench.errors import BadLane
from workbench.models.base import LanguageModel
from workbench.models.placing import rule_for
from workbench.place import read_place
from workbench.progress import Progress

if TYPE_CHECKING:
    from workbench.methods.registry import Fitted, Method


def check_place(known: Method, model: LanguageModel, place: str) -> None:
    """Before a fit: that the method's edits can be held to this place of this model; the empty one is their own.

    Raises:
        BadLane: they change weights. UnknownName, BadPlace: it is no place, or one that this model's texts do not have.
    """
    if not place:
        return
    if not known.needs.has_place:
        raise BadLane(
            f"{known.title} changes weights, which act at every token.", "Leave the place out, or take a method that edits activations."
        )
    known_place(place)
    if (where := read_place(place)).reads_text:
        rule_for(model.tokenizer, where)


def placed_fit(
    known: Method, model: LanguageModel, rows: Demonstrations, config: object, *, seed: int, place: str, progress: Progress | None
) -> Fitted:
    """Fit, and let the edit act there. Raises: as `Method.fit` and `Edit.placed`."""
    fitted = known.fit(model, rows, config, seed=seed, progress=progress)
    return replace(fitted, edit=fitted.edit.placed(place)) if place else fitted
