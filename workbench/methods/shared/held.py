"""Which methods can be held to the heads and MLPs of a scope, and why the others would change more, or less."""

from __future__ import annotations

from dataclasses import replace

from workbench.methods.registry import Method, ordered
from workbench.methods.shared.needs import Obstacle
from workbench.methods.shared.parts import Scope
from workbench.models.base import LanguageModel


def held_by(model: LanguageModel, scope: Scope) -> tuple[Method, ...]:
    """The methods whose edits change just the heads and MLPs of a scope on this model, in the order in which people meet them."""
    return tuple(method for method in ordered() if not method.obstacles_of(model) and beyond(method, model, scope) is None)


def beyond(method: Method, model: LanguageModel, scope: Scope) -> Obstacle | None:
    """Why an edit would not be of just the heads and MLPs of a scope; None if it would, or if none were picked."""
    asked, held = replace(scope, layers=()), method.holds.left(scope)
    if asked.parts is None or held == asked and not method.holds.lacking(model, scope):
        return None
    if scope.layers:
        return Obstacle(f"Layers were picked too: {method.title} takes those of the {_kinds(asked)} whole.", "Hand the others over alone.")
    if held.parts is None:
        return Obstacle(f"{method.title} takes the layers of these {_kinds(asked)} whole.", "Choose a method that acts on these alone.")
    if lacking := method.holds.lacking(model, scope):
        why = f"{method.title} acts on {_kinds(asked)} at sites that {model.info.name} lacks: {', '.join(lacking)}."
        return Obstacle(why, "Pick others, or choose another method.")
    return Obstacle(
        f"{method.title} changes the {_kinds(held)} of these alone, and leaves the others as they are.", "Fit one edit for each."
    )


def _kinds(scope: Scope) -> str:
    return " and ".join([*(["heads"] if scope.heads else []), *(["MLPs"] if scope.mlps else [])])
