"""Edits: tensors plus addresses, frozen. What they do is operations, the only things that the engine knows how to do."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, final

import torch

from workbench.edits.header import EDIT_SCHEMA as EDIT_SCHEMA
from workbench.edits.header import REFUSED, network_of
from workbench.edits.header import ExportTarget as ExportTarget
from workbench.edits.header import Header as Header
from workbench.edits.lane import Dosed
from workbench.errors import BadDose, BadLane, UnknownName, UnknownSite, UnsupportedExport
from workbench.models.base import LanguageModel
from workbench.operations import POSITION_RULES, AddToWeight, Gate, Operation, TransformAt, rule_of
from workbench.place import ROLES, read_place
from workbench.shapes import Tensor
from workbench.sites import Site

_NONE: Mapping[Any, Any] = MappingProxyType({})


@final
@dataclass(frozen=True)
class Possible:
    """An export that is exact."""


@final
@dataclass(frozen=True)
class Refused:
    """An export that would not be exact, and why."""

    reason: str


@dataclass(frozen=True)
class Edit(Dosed):
    """A fitted edit, frozen. Subclasses are final, registered by `edit_kind`, and hold only tensors beside the header.

    `dose` counts from the fit: 0 is the untouched model, 1 the edit as fitted.

    Invariants: at dose 0 there are no operations; `from_tensors(header, tensors())` is the same edit at dose 1.
    """

    kind: ClassVar[str]
    header: Header
    dose: float = field(default=1.0, kw_only=True)
    gates: Mapping[Site, Gate] = field(default_factory=lambda: _NONE, kw_only=True)
    spares: Mapping[Site, float] = field(default_factory=lambda: _NONE, kw_only=True)
    """Norm bounds: tokens beyond the bound of a site are left alone there."""
    place: str = field(default="", kw_only=True)
    """The place where it acts, in place of its own (empty), as `place.read_place` reads it: a part of the edit, saved with it."""
    where: str = field(default="", kw_only=True)
    """The same of a lane, which comes before the edit's and is not saved."""
    held_to: frozenset[int] | None = field(default=None, kw_only=True)
    """Held to these layers (None: all; −1: what acts before the first): to look at a part of an edit. It is not saved."""
    called: str = field(default="", kw_only=True)
    """The name that somebody gave it; empty: it goes by its method. It lies beside the edit in the workspace, not in it."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that was fitted, by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        """Build the edit from its header and tensors.

        Raises:
            CorruptEdit: a tensor is missing or of the wrong shape.
        """

    @abstractmethod
    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        """The operations at a dose other than 0, without gates and bounds."""

    @abstractmethod
    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        """Which exports are exact, and why the others are not, were it not for gates and bounds."""

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        """The edit as deltas of weights, at its dose other than 0 and without gates and bounds. Raises: as `folded`."""
        operations = self.at_dose(self.dose)
        if any(isinstance(op, TransformAt) for op in operations):
            raise UnsupportedExport(
                f"A {self.kind} edit changes activations token by token; no change of weights equals it.",
                "Export it as a script, which carries the tensors and applies them with hooks.",
            )
        return tuple(op for op in operations if isinstance(op, AddToWeight))

    @final
    def operations(self) -> tuple[Operation, ...]:
        """What the engine does for this edit at its dose; nothing at dose 0."""
        if self.dose == 0.0:
            return ()
        where = self.acts_at
        return tuple(
            replace(op, gate=self.gates.get(op.site, op.gate), spare=self.spares.get(op.site, op.spare), where=where or op.where)
            if isinstance(op, TransformAt) and (where or op.site in self.gates or op.site in self.spares)
            else op
            for op in self.at_dose(self.dose)
            if self._acts_at(op.site)
        )

    @final
    @property
    def acts_at(self) -> str:
        """The place where it acts, a lane's before its own; empty: where the operations of its method say."""
        return self.where or self.place

    @final
    def acting(self, where: str) -> Self:
        """The same edit, acting at a place as a lane has it, which is not saved; empty: where it acts by itself.

        Raises:
            UnknownName: no position rule has that name. BadPlace: it is no place. BadLane: it changes weights, which act at every token.
        """
        return replace(self, where=self._place(where))

    @final
    def placed(self, place: str) -> Self:
        """The same edit, acting at a place that is a part of it and saved with it: another edit, with an id of its own.

        Raises: as `acting`.
        """
        return replace(self, place=self._place(place), where="")

    def _place(self, where: str) -> str:
        place = known_place(where)
        if place and any(isinstance(op, AddToWeight) for op in self.at_dose(self.dose or 1.0)):
            raise BadLane(
                f"This {self.header.method} edit changes weights, which act at every token.", "Place an edit of activations, or leave it."
            )
        return place

    def _acts_at(self, site: Site) -> bool:
        return self.held_to is None or (-1 if site.layer is None else site.layer) in self.held_to

    @final
    def possible_exports(self, model: LanguageModel | None = None) -> Mapping[ExportTarget, Possible | Refused]:
        """Which exports are exact, and why the others are not; of the model that it was fitted on, or of this one of the same weights."""
        if model is not None and network_of(model) != self.header.network:  # an older edit does not say
            facts = {**self.header.facts, "network": network_of(model)}
            return replace(self, header=replace(self.header, facts=facts)).possible_exports()
        reasons = dict(REFUSED[self.header.network])
        if self.dose == 0.0:
            reasons |= {"peft": "At dose 0 it changes no matrix, and an adapter of none cannot be read."}
        if self.acts_at and read_place(self.acts_at).reads_text:
            reasons |= {"script": f"It acts {read_place(self.acts_at).label}, and a script sees positions and no text."}
        if self._decides_by_token:
            reasons |= dict.fromkeys(("checkpoint", "peft"), self._decides_by_token)
        return {
            target: Refused(reasons[target]) if target in reasons and isinstance(can, Possible) else can
            for target, can in self.exports().items()
        }

    @final
    def folded(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        """The same edit as deltas of weights, at its dose.

        Raises:
            UnsupportedExport: no change of weights equals it.
        """
        if self._decides_by_token:
            raise UnsupportedExport(self._decides_by_token, "Take gate, bounds and place off, or export it as a script.")
        return () if self.dose == 0.0 else tuple(op for op in self.deltas(model) if self._acts_at(op.site))

    @property
    def _decides_by_token(self) -> str:
        if self.gates:
            return "A gate decides token by token; no change of weights equals it."
        if self.acts_at not in ("", "all"):
            return f"It acts {read_place(self.acts_at).label}; a change of weights acts at every token."
        return "Tokens beyond a norm are spared one by one; no change of weights equals it." if self.spares else ""

    @final
    def scaled(self, dose: float) -> Self:
        """The same edit at `dose` times its dose: 0 is exactly the identity, 1 as it is. Raises: BadDose, if the product is not finite."""
        return self.dosed(self.dose * dose)

    @final
    def dosed(self, dose: float) -> Self:
        """The same edit at a dose counted from its fit, whatever its dose is now. Raises: BadDose, if it is not finite."""
        if not math.isfinite(dose):
            raise BadDose(
                f"A dose of {dose:g} is no number to scale an edit by.",
                "Give a finite number: 0 is the untouched model, 1 the edit as fitted.",
            )
        return replace(self, dose=float(dose))

    @final
    def gated(self, gates: Mapping[Site, Gate]) -> Self:
        """The same edit, acting only where the gates let it."""
        return replace(self, gates=MappingProxyType(dict(gates)))

    @final
    def sparing(self, bounds: Mapping[Site, float]) -> Self:
        """The same edit, leaving alone the tokens whose norm at a site is beyond the site's bound.

        Raises:
            UnknownSite: it transforms nothing at one of the sites.
        """
        known = [str(op.site) for op in self.at_dose(self.dose or 1.0) if isinstance(op, TransformAt)]
        for site in bounds:
            if str(site) not in known:
                raise UnknownSite(str(site), known)
        return replace(self, spares=MappingProxyType(dict(bounds)))

    @final
    def on(self, device: torch.device | str) -> Self:
        """The same edit with its tensors on a device."""
        moved = self.from_tensors(self.header, {name: tensor.to(device) for name, tensor in self.tensors().items()})
        gates = {site: Gate(gate.weight.to(device), gate.bias.to(device), gate.kind, gate.sharpness) for site, gate in self.gates.items()}
        kept = {"spares": self.spares, "place": self.place, "where": self.where, "held_to": self.held_to, "called": self.called}
        return replace(moved, dose=self.dose, gates=MappingProxyType(gates), **kept)

    @final
    @property
    def key(self) -> str:
        """The id: what a lane finds the edit by."""
        return self.id

    @final
    @property
    def written_dose(self) -> float:
        """The dose."""
        return self.dose

    @final
    @property
    def written_place(self) -> str:
        """Where its lane lets it act; empty: where it acts by itself."""
        return self.where

    @final
    @property
    def id(self) -> str:
        """Twelve hex digits of header, tensors, gates, bounds and place: of the fit, whatever the dose and a lane's place."""
        told, model = self.header.as_json(), self.header.model
        told["model"] = {**model.as_json(), "weights": model.old_weights}
        told["model"].pop("sampled", None)
        digest = hashlib.sha256(json.dumps([self.kind, told], sort_keys=True, default=str).encode())
        if self.spares:
            digest.update(json.dumps({str(site): bound for site, bound in self.spares.items()}, sort_keys=True).encode())
        if self.place:
            digest.update(f"at {self.place}".encode())
        for name, tensor in sorted(self.all_tensors().items()):
            digest.update(name.encode() + sha256(tensor).encode())
        return digest.hexdigest()[:12]

    @final
    def all_tensors(self) -> dict[str, Tensor]:
        """The edit's tensors and its gates', as a file holds them."""
        gates = {f"gate.{site}.{part}": getattr(gate, part) for site, gate in self.gates.items() for part in ("weight", "bias")}
        return {**self.tensors(), **gates}


Stack = tuple[Edit, ...]
"""Loaded edits that act one after the other, each at its own dose."""

EditT = TypeVar("EditT", bound=type[Edit])
_KINDS: dict[str, type[Edit]] = {}
# Where kinds register themselves: rows above this one, so they are imported by name, and only when a file asks for a kind.
_HOMES = ("workbench.methods", "workbench.edits.placebo", "workbench.edits.cell", "workbench.edits.steering")


def known_place(where: str) -> str:
    """A place as it is written; empty: where its method says. Raises: UnknownName, no position rule has that name; BadPlace."""
    if not where:
        return ""
    place = read_place(where)
    if not place.reads_text and rule_of(str(place)) is None:
        raise UnknownName("position rule", where, (*POSITION_RULES, *ROLES, "first 4", 'after "…"'))
    return str(place)


def edit_kind(name: str) -> Callable[[EditT], EditT]:
    """Register an edit class under the name that files carry."""

    def register(cls: EditT) -> EditT:
        if name in _KINDS:
            raise ValueError(f"The edit kind {name!r} is taken by {_KINDS[name].__name__}.")
        cls.kind = name
        _KINDS[name] = cls
        return cls

    return register


def kind_of(name: str) -> type[Edit]:
    """The edit class of a name in a file, whatever has been imported so far.

    Raises:
        UnknownName: nobody registered it.
    """
    if name not in _KINDS:
        for home in _HOMES:
            import_module(home)
    if name not in _KINDS:
        raise UnknownName("edit kind", name, _KINDS)
    return _KINDS[name]


def sha256(tensor: Tensor) -> str:
    """Hash of a tensor's dtype, shape and bytes."""
    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype}{tuple(data.shape)}".encode())
    flat = data.reshape(-1)
    if flat.numel() and flat.stride(0) != 1:  # one value may keep the stride of what it was taken from
        flat = flat.clone(memory_format=torch.contiguous_format)
    digest.update(flat.view(torch.uint8).numpy().tobytes() if data.numel() else b"")
    return digest.hexdigest()
