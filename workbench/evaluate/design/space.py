"""The designs that a search chooses among: every configuration that a method has worth trying, each at every dose.

What is varied follows from the registry alone: a method's `designs`, else its `tries`, or as many configurations as it `draws`; with them
the readings and gates that its config offers. Ref: docs/methods/shared.md §9.7.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.errors import Obstructed
from workbench.knobs import Knob, knobs
from workbench.methods.registry import Method, get, ordered
from workbench.methods.shared.gating import TRIED_GATES
from workbench.models.base import LanguageModel, ModelInfo
from workbench.shapes import Float, Int
from workbench.sites import Site

DESIGN_DOSES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Doses that are tried, up to a method's `top_dose` or 2."""
_N_CONFIGURATIONS = 16
"""Configurations of a method that draws its knobs."""
_READINGS = ("last", "mean")
_ABSENT = 0.5


@dataclass(frozen=True)
class Design:
    """A configuration of a method, as knobs beside its defaults, at a dose."""

    method: str
    values: Mapping[str, Any]
    dose: float

    @property
    def config(self) -> str:
        """The configuration as text: designs that agree in it differ in their dose alone."""
        return json.dumps([self.method, {name: self.values[name] for name in sorted(self.values)}])

    @property
    def key(self) -> str:
        """The design as text; equal designs have equal ones."""
        return f"{self.config} {self.dose!r}"

    @property
    def label(self) -> str:
        """The design in words."""
        told = ", ".join(f"{name.replace('_', ' ')} {_worded(value)}" for name, value in self.values.items())
        return f"{get(self.method).title} × {self.dose:g}" + (f" ({told})" if told else "")


@dataclass(frozen=True, eq=False)
class Space:
    """Designs, and what a search has to know of them as numbers."""

    designs: tuple[Design, ...]
    features: Float[np.ndarray, "design feature"]
    kinds: Int[np.ndarray, " design"]

    @property
    def doses(self) -> Float[np.ndarray, " design"]:
        """The dose of each design."""
        return np.array([one.dose for one in self.designs])

    @property
    def sites(self) -> tuple[Site, ...]:
        """The residual stream behind every layer that is tried, so that one forward serves all fits."""
        layers = {layer for one in self.designs for layer in _layers(get(one.method), one.values)}
        return tuple(Site("resid_post", layer) for layer in sorted(layers))


def fast_methods(model: LanguageModel, demonstrations: Demonstrations) -> tuple[str, ...]:
    """The methods that can run here and whose fits take a second or so, the simple ones first."""
    return tuple(one.name for one in ordered() if not one.cost and not one.obstacles(model, demonstrations))


def space_of(model: LanguageModel, methods: Sequence[str]) -> Space:
    """Every design of some methods on a model of this shape.

    Raises:
        UnknownMethod: a name. Obstructed: there is no method.
    """
    if not methods:
        raise Obstructed("There is no method to search among.", "Name methods that can run on this model and set.")
    designs = [
        Design(name, values, dose)
        for name in dict.fromkeys(methods)
        for values in tried_configurations(get(name), model.info)
        for dose in DESIGN_DOSES
        if dose <= max(2.0, get(name).top_dose)
    ]
    order = list(dict.fromkeys(one.method for one in designs))
    return Space(tuple(designs), _features(designs, model.info), np.array([order.index(one.method) for one in designs]))


def tried_configurations(method: Method, info: ModelInfo) -> list[dict[str, Any]]:
    """Knobs of every configuration of a method that is tried."""
    known = {item.name: item for item in knobs(method.config)}
    if method.designs is None and method.draws is not None:
        drawn = Random(0)
        return [dict(method.draws(drawn, info)) for _ in range(_N_CONFIGURATIONS)]
    options = dict((method.designs or method.tries)(info))
    for name, tried in (("read", _readings(known.get("read"))), ("gate", TRIED_GATES if "gate" in known else ())):
        if tried and name not in options:
            options[name] = tried
    return [dict(zip(options, values)) for values in itertools.product(*options.values())]


def _readings(item: Knob | None) -> tuple[str, ...]:
    """The readings that are tried: the default, and those of one vector a text."""
    return tuple(word for word in (item.choices or ()) if word in _READINGS or word == item.default != "auto") if item else ()


def _layers(method: Method, values: Mapping[str, Any]) -> tuple[int, ...]:
    found = [values.get(item.name) for item in knobs(method.config) if item.names_layers]
    return tuple(layer for value in found if value is not None for layer in (value if isinstance(value, tuple) else (value,)))


def _features(designs: Sequence[Design], info: ModelInfo) -> Float[np.ndarray, "design feature"]:
    """Columns in [0, 1]: the methods, depth and number of layers, the dose's logarithm, then knobs.

    A knob with more than two numbers is one column, by rank; of any other each option is a column. What a method has no such knob of stands
    in the middle, or at zero.
    """
    methods = list(dict.fromkeys(one.method for one in designs))
    layers = [_layers(get(one.method), one.values) for one in designs]
    depth = [np.mean(some) / max(1, info.n_layers - 1) if some else _ABSENT for some in layers]
    doses = np.log([one.dose for one in designs]) - np.log(DESIGN_DOSES[0])
    columns = [[float(one.method == name) for one in designs] for name in methods]
    columns += [depth, [float(len(some) > 1) for some in layers], doses / np.log(DESIGN_DOSES[-1] / DESIGN_DOSES[0])]
    named = {item.name for name in methods for item in knobs(get(name).config) if item.names_layers}
    for name in dict.fromkeys(name for one in designs for name in one.values if name not in named):
        values = [one.values.get(name) for one in designs]
        distinct = list(dict.fromkeys(value for value in values if value is not None))
        if len(distinct) > 2 and all(isinstance(value, int | float) for value in distinct):
            ranks = {value: rank / (len(distinct) - 1) for rank, value in enumerate(sorted(distinct))}
            columns.append([_ABSENT if value is None else ranks[value] for value in values])
        elif len(distinct) > 1:
            columns += [[float(value == option) for value in values] for option in distinct]
    return np.array(columns, dtype=np.float64).T


def _worded(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    return f"{value:.3g}" if isinstance(value, float) else str(value)
