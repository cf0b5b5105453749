"""The registry of methods: all that the rest of Retouch knows of one, so that nobody outside a method's own folder has to name it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, Header, network_of
from workbench.errors import Obstructed, UnknownMethod, UnknownName
from workbench.knobs import as_json, check_layers, configured
from workbench.methods.shared.needs import Needs, Obstacle, lacking
from workbench.methods.shared.parts import Holds, Scope
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.chat import rendering_of
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Logits

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Curve:
    """A line of a report: y over x, with the words for its axes."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Notice:
    """A finding in words: `warning` for a tell-tale failure, `note` for what is good to know; `why` explains it to who asks."""

    level: Literal["note", "warning"]
    text: str
    hint: str = ""
    why: str = ""

    @property
    def is_identity(self) -> bool:
        """Whether it says that the edit hardly does anything, which whoever measures the edit says again."""
        return "the identity" in self.text


@dataclass(frozen=True)
class FitReport:
    """What a fit can show: scalars (units in their names), curves, arrays for figures, table rows, findings."""

    scalars: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    curves: tuple[Curve, ...] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=lambda: NOTHING)
    tables: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=lambda: NOTHING)
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """An edit and the report of its fit."""

    edit: Edit
    report: FitReport


@runtime_checkable
class FitFunction(Protocol):
    """How a method's function is called; it uses the rows of split `fit`, chooses on `validation`, and never looks at `test`."""

    def __call__(self, model: LanguageModel, demonstrations: Demonstrations, config: Any, *, seed: int, progress: Progress) -> Fitted: ...


@runtime_checkable
class ProceedFunction(Protocol):
    """How a search goes on from the trials in a report, up to the config's budget."""

    def __call__(
        self, model: LanguageModel, demonstrations: Demonstrations, config: Any, report: FitReport, *, seed: int, progress: Progress
    ) -> Fitted: ...


@runtime_checkable
class WithoutFunction(Protocol):
    """How a method says what it would have fitted without each row.

    Yields the number of a row among those of split `fit`, and the edit without it. What the fit chose (layers, numbers of directions,
    strength, gates, bounds, the epoch kept) and drew (starts, orders) is held at the edit's, as is its dose.
    """

    def __call__(
        self, model: LanguageModel, demonstrations: Demonstrations, edit: Any, config: Any, *, progress: Progress
    ) -> Iterator[tuple[int, Edit]]: ...


@dataclass(frozen=True)
class Step:
    """A fit between two epochs.

    `share` is how much of the fit is done, 0 to 1; `edit` freezes what is fitted so far. `logits` is a forward that carries it, for what is
    quicker run than frozen.
    """

    share: float
    edit: Callable[[], Edit]
    logits: Callable[[TokenBatch], Logits] | None = None


@runtime_checkable
class StepFunction(Protocol):
    """How a fit goes epoch by epoch: the unedited model first, then the state after each epoch, each valid until the next is asked for."""

    def __call__(
        self, model: LanguageModel, train: Demonstrations, config: Any, neutral: Sequence[tuple[int, ...]], *, seed: int
    ) -> Iterator[Step]: ...


ExtraObstacles = Callable[[LanguageModel, Demonstrations], tuple[Obstacle, ...]]
Tries = Callable[[ModelInfo], Mapping[str, tuple[Any, ...]]]
Draws = Callable[[Random, ModelInfo], Mapping[str, Any]]
Scopes = Callable[[Scope], Mapping[str, Any]]


def _nothing(_: object) -> Mapping[str, Any]:
    return NOTHING


@dataclass(frozen=True)
class Method:
    """One registered method."""

    name: str
    title: str
    summary: str
    paper: str
    config: type
    edit: type[Edit]
    needs: Needs
    presets: Mapping[str, Mapping[str, Any]]
    run: FitFunction
    extra_obstacles: ExtraObstacles | None = None
    proceed: ProceedFunction | None = None
    """Goes on with a search that was recorded; None for a method that is no search."""
    tries: Tries = _nothing
    """Knobs worth trying in a choice by validation, with the values to try, for a model of this shape; the dose is always tried."""
    draws: Draws | None = None
    """Draws knobs at random for the protocol of canonical examples; None: one of each of `tries`."""
    steps: StepFunction | None = None
    """The protocol goes through a fit by its epochs; None: through doses of one fit, up to `top_dose`."""
    top_dose: float = 1.0
    """The largest dose at which the protocol still looks; 1 for what is used as it was fitted, or less."""
    scopes: Scopes = _nothing
    """What a scope means: values of knobs; nothing where no knob takes such places."""
    holds: Holds = field(default_factory=Holds)
    """To which heads and MLPs it can be held, and by which sites; none: it takes their layers, or all."""
    alone: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Knobs for a fit to rows that are all there is: none are apart to choose on."""
    without: WithoutFunction | None = None
    """Knows the edit without each row in closed form, from one reading of all; None: only refits tell what a row does."""
    order: int = 100
    """Its place among the methods: a newcomer meets the simple ones first."""
    designs: Tries | None = None
    """What a design search varies, as `tries`; None: what `tries` or `draws` say, readings and gate with it."""
    cost: str = ""
    """Why many fits of it take long, in words; a design search has it on request alone. Empty: a fit takes a second or so."""
    preset_says: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """What each preset is, a sentence by name; `shared.presets.presets_of` knows those whose names mean the same everywhere."""
    refits: WithoutFunction | None = None
    """Fits without each row in turn, all draws held, which would change with fewer rows; None: it draws nothing, or cannot hold it."""

    def obstacles_of(self, model: LanguageModel) -> tuple[Obstacle, ...]:
        """Why this method cannot run on this model, whatever the demonstrations; empty if it can."""
        found: list[Obstacle] = []
        if self.needs.senses and not model.info.has_senses:
            found.append(Obstacle(f"{self.title} needs a Backpack; {model.info.name} has no senses.", "Load embedded-backpack."))
        if self.needs.heads and model.info.has_senses:
            found.append(Obstacle(f"{self.title} acts on attention heads of a GPT-style model.", "Load embedded or another such model."))
        if self.needs.weights and model.info.quantised:
            reason = f"{self.title} changes weights, and those of {model.info.name} are kept in {model.info.quantised}."
            return (Obstacle(reason, "Load the model in float32 or bfloat16, or use a method that edits activations."),)
        if self.needs.sites and not any(model.layers_of(kind) for kind in self.needs.sites):
            what = " or ".join(self.needs.sites)
            hint = "Load embedded or another model that has; docs/families.md lists what each family has."
            found.append(Obstacle(f"{self.title} acts at {what}, and {model.info.name} ({model.info.architecture}) has none.", hint))
        if self.needs.parameters and model.entangled:
            what = f"{len(model.entangled)} of {model.info.name} lie in modules that take or give several tensors, where no delta can act"
            first = min(model.entangled)
            found.append(Obstacle(f"{self.title} moves every parameter; {what} (first: {first}).", "Use LoRA on this model."))
        return tuple(found)

    def obstacles(self, model: LanguageModel, demonstrations: Demonstrations | None = None) -> tuple[Obstacle, ...]:
        """Why this method cannot run on this model with these demonstrations, or with any; empty if it can."""
        found = list(self.obstacles_of(model))
        if demonstrations is None:
            return tuple(found)
        rows = demonstrations.split("fit")
        takers = [item.title for item in ordered() if item.needs.sets or item.needs.task == "concept"]
        found += lacking(self.title, self.needs, rows, takers)
        if len(rows) < self.needs.min_rows:
            found.append(
                Obstacle(f"{len(rows)} demonstrations are marked fit; {self.needs.min_rows} are needed.", "Add rows of split fit.")
            )
        extra = () if self.extra_obstacles is None or found else self.extra_obstacles(model, demonstrations)
        return (*found, *extra)

    def require(self, model: LanguageModel, demonstrations: Demonstrations) -> None:
        """Refuse what the method cannot run on.

        Raises:
            Obstructed: the message names the obstacles.
        """
        obstacles = self.obstacles(model, demonstrations)
        if obstacles:
            raise Obstructed(" ".join(item.reason for item in obstacles), " ".join(item.hint for item in obstacles))

    def configure(self, values: Mapping[str, object] = NOTHING, preset: str | None = None) -> Any:
        """Build the config from a preset and values on top.

        Raises:
            UnknownName: no such preset. UnknownKnob, BadKnob: as `knobs.configured`.
        """
        if preset is not None and preset not in self.presets:
            raise UnknownName("preset", preset, self.presets)
        base = configured(self.config, {} if preset is None else self.presets[preset])
        return configured(self.config, values, base)

    def fit(
        self,
        model: LanguageModel,
        demonstrations: Demonstrations,
        config: Any = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Fitted:
        """Fit the edit. The model is left bit-equal; the same seed gives the same edit.

        Raises:
            Obstructed: the method cannot run here; the message names the obstacles. BadKnob: a layer that the model does not have.
        """
        self.require(model, demonstrations)
        knobs, tell = config or self.config(), progress or silent()
        check_layers(knobs, model.info.n_layers)
        with memo.remembering():
            fitted = self.run(model, demonstrations, knobs, seed=seed, progress=tell)
        tell(1.0, "Done")
        return fitted


MethodT = TypeVar("MethodT", bound=FitFunction)
_METHODS: dict[str, Method] = {}


def method(
    name: str,
    *,
    title: str,
    summary: str,
    paper: str,
    config: type,
    edit: type[Edit],
    needs: Needs,
    presets: Mapping[str, Mapping[str, Any]] = NOTHING,
    obstacles: ExtraObstacles | None = None,
    proceed: ProceedFunction | None = None,
    tries: Tries = _nothing,
    draws: Draws | None = None,
    steps: StepFunction | None = None,
    top_dose: float = 1.0,
    scopes: Scopes = _nothing,
    holds: Holds | None = None,
    alone: Mapping[str, Any] = NOTHING,
    without: WithoutFunction | None = None,
    order: int = 100,
    designs: Tries | None = None,
    cost: str = "",
    preset_says: Mapping[str, str] = NOTHING,
    refits: WithoutFunction | None = None,
) -> Callable[[MethodT], MethodT]:
    """Register a fit function as a method; the arguments are the fields of `Method`."""

    def register(run: MethodT) -> MethodT:
        if name in _METHODS:
            raise ValueError(f"The method {name!r} is registered already.")
        _METHODS[name] = Method(
            name, title, summary, paper, config, edit, needs, presets, run, obstacles, proceed,
            tries, draws, steps, top_dose, scopes, holds or Holds(), alone, without, order, designs, cost, preset_says, refits,
        )  # fmt: skip
        return run

    return register


def get(name: str) -> Method:
    """Return a method by name.

    Raises:
        UnknownMethod: nobody registered it; register with `@method(name, …)`.
    """
    if name not in _METHODS:
        raise UnknownMethod(name, _METHODS)
    return _METHODS[name]


def names() -> tuple[str, ...]:
    """Names of all registered methods, sorted."""
    return tuple(sorted(_METHODS))


def ordered() -> tuple[Method, ...]:
    """All registered methods, in the order in which people meet them."""
    return tuple(sorted(_METHODS.values(), key=lambda item: (item.order, item.name)))


def header(
    name: str, model: LanguageModel, demonstrations: Demonstrations, config: Any, seed: int, facts: Mapping[str, Any] = NOTHING
) -> Header:
    """The header of an edit fitted now; it says through which template conversations were read."""
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers", "transformer-lens")}
    rows = demonstrations.fitted_marks
    if demonstrations.is_chat:
        facts = {**facts, "rendered": rendering_of(model.tokenizer, demonstrations.prompts())}
    if network_of(model):
        facts = {**facts, "network": network_of(model)}
    return Header(name, as_json(config), model.fingerprint, demonstrations.fingerprint, seed, versions, facts, rows=rows)


def with_notices(fitted: Fitted, *notices: Notice) -> Fitted:
    """The same fit with more findings."""
    return replace(fitted, report=replace(fitted.report, notices=(*fitted.report.notices, *notices)))
