"""Edits: tensors plus addresses, frozen; and the two operations, the only things that the engine knows how to do."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar, final

import torch

from workbench.errors import UnknownName, UnsupportedExport
from workbench.models.base import Fingerprint, LanguageModel
from workbench.shapes import Activations, Bool, Float, Int, Tensor
from workbench.sites import Site

SCHEMA = 1
Where = Literal["all", "prompt", "generated", "last", "released"]
ExportTarget = Literal["checkpoint", "peft", "script", "report"]
_NONE: Mapping[Any, Any] = MappingProxyType({})


@final
@dataclass(frozen=True)
class Gate:
    """Decide per token whether an edit acts: a linear probe on the incoming activation.

    hard: act iff w·x + b > 0. soft: act by the share sigmoid(sharpness (w·x + b)). Ref: conditional activation steering, arXiv 2409.05907.
    """

    weight: Float[Tensor, "width"]
    bias: Float[Tensor, ""]
    kind: Literal["hard", "soft"] = "hard"
    sharpness: float = 1.0

    def __call__(self, x: Activations) -> Float[Tensor, "batch pos 1"]:
        """Share of the edit that acts at each position, in [0, 1]."""
        return self.opens(x).float() if self.kind == "hard" else torch.sigmoid(self.sharpness * self._score(x))

    def opens(self, x: Activations) -> Bool[Tensor, "batch pos 1"]:
        """Whether w·x + b > 0, which is where a hard gate lets the edit act."""
        return self._score(x) > 0

    def _score(self, x: Activations) -> Float[Tensor, "batch pos 1"]:
        return torch.nn.functional.linear(x.float(), self.weight.float()[None], self.bias.float()[None])


@final
@dataclass(frozen=True)
class TransformAt:
    """Replace the activation x at `site` by fn(x): pure, position-wise, of the same shape, returned as the type of x.

    `where`: all positions, those of the prompt, those whose output decides generated tokens, the last of each call, or
    `Forward.released`. `reads_mask`: fn(x, real) also gets the mask of real tokens (batch pos), for the one law that is not position-wise
    (specs/sea.md §4, norm=feature).
    """

    site: Site
    fn: Callable[..., Activations]
    width: int
    where: Where = "all"
    gate: Gate | None = None
    reads_mask: bool = False
    traceable: Callable[..., Activations] | None = None
    """The same law without shapes or branches that depend on data, where `fn` has them: a stand-alone script records it."""


@final
@dataclass(frozen=True)
class LowRank:
    """The delta `scale · b @ a` of a matrix, never formed."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), as the matrix would have."""
        return (self.b.shape[0], self.a.shape[1])

    def dense(self) -> Float[Tensor, "out in"]:
        """The matrix itself, in float64: for folding and exports."""
        return self.scale * (self.b.double() @ self.a.double())


@final
@dataclass(frozen=True)
class Rows:
    """A delta of a few rows of a table, looked up by token id."""

    ids: Int[Tensor, "row"]
    values: Float[Tensor, "row width"]


@final
@dataclass(frozen=True)
class AddToWeight:
    """Add a delta to the weight at `site`: a delta, never a new value, so two edits add up. Matrices are given as (out, in)."""

    site: Site
    delta: Tensor | LowRank | Rows


Operation = TransformAt | AddToWeight


@final
@dataclass(frozen=True)
class Header:
    """Where an edit comes from. `facts` are JSON values that the edit's class needs beside its tensors."""

    method: str
    config: Mapping[str, Any]
    model: Fingerprint
    data: str
    seed: int
    versions: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        """As JSON types, as `edit.json` holds it."""
        return {
            "method": self.method,
            "config": dict(self.config),
            "model": asdict(self.model),
            "data": self.data,
            "seed": self.seed,
            "versions": dict(self.versions),
            "facts": dict(self.facts),
            "schema": self.schema,
        }


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
class Edit(ABC):
    """A fitted edit, frozen. Subclasses are final, registered by `edit_kind`, and hold only tensors beside the header.

    Invariants: at dose 0 there are no operations; `from_tensors(header, tensors())` is the same edit at dose 1.
    """

    kind: ClassVar[str]
    header: Header
    dose: float = field(default=1.0, kw_only=True)
    gates: Mapping[Site, Gate] = field(default_factory=lambda: _NONE, kw_only=True)

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
        """The operations at a dose other than 0, without gates."""

    @abstractmethod
    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        """Which exports are exact, and why the others are not."""

    @final
    def operations(self) -> tuple[Operation, ...]:
        """What the engine does for this edit at its dose; nothing at dose 0."""
        if self.dose == 0.0:
            return ()
        return tuple(
            replace(op, gate=self.gates[op.site]) if isinstance(op, TransformAt) and op.site in self.gates else op
            for op in self.at_dose(self.dose)
        )

    @final
    def scaled(self, dose: float) -> Self:
        """The same edit at `dose` times its dose: 0 is exactly the identity, 1 as it is."""
        return replace(self, dose=self.dose * dose)

    @final
    def gated(self, gates: Mapping[Site, Gate]) -> Self:
        """The same edit, acting only where the gates let it."""
        return replace(self, gates=MappingProxyType(dict(gates)))

    @final
    def on(self, device: torch.device | str) -> Self:
        """The same edit with its tensors on a device."""
        moved = self.from_tensors(self.header, {name: tensor.to(device) for name, tensor in self.tensors().items()})
        gates = {site: Gate(gate.weight.to(device), gate.bias.to(device), gate.kind, gate.sharpness) for site, gate in self.gates.items()}
        return replace(moved, dose=self.dose, gates=MappingProxyType(gates))

    @final
    @property
    def id(self) -> str:
        """Twelve hex digits of header, tensors and gates; the dose does not count."""
        digest = hashlib.sha256(json.dumps([self.kind, self.header.as_json()], sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.all_tensors().items()):
            digest.update(name.encode() + sha256(tensor).encode())
        return digest.hexdigest()[:12]

    @final
    def all_tensors(self) -> dict[str, Tensor]:
        """The edit's tensors and its gates', as a file holds them."""
        gates = {f"gate.{site}.{part}": getattr(gate, part) for site, gate in self.gates.items() for part in ("weight", "bias")}
        return {**self.tensors(), **gates}

    def folded(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        """The same edit as deltas of weights, at its dose.

        Raises:
            UnsupportedExport: no change of weights equals it.
        """
        operations = self.operations()
        if any(isinstance(op, TransformAt) for op in operations):
            raise UnsupportedExport(
                f"A {self.kind} edit changes activations token by token; no change of weights equals it.",
                "Export it as a script, which carries the tensors and applies them with hooks.",
            )
        return tuple(op for op in operations if isinstance(op, AddToWeight))


EditT = TypeVar("EditT", bound=type[Edit])
_KINDS: dict[str, type[Edit]] = {}


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
    """The edit class of a name in a file.

    Raises:
        UnknownName: nobody registered it.
    """
    if name not in _KINDS:
        raise UnknownName("edit kind", name, _KINDS)
    return _KINDS[name]


def sha256(tensor: Tensor) -> str:
    """Hash of a tensor's dtype, shape and bytes."""
    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype}{tuple(data.shape)}".encode())
    digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b"")
    return digest.hexdigest()
