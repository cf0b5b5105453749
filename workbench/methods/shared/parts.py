"""Places that somebody picked in a network, and what an edit of weights is when it is held to single heads and MLPs.

Law: a head is edited by what it writes: adapters of the matrix through which heads write, which see the head's own columns and no others,
so that the change of the stream is a function of that head's output alone. An MLP is edited by both of its matrices.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import BadKnob
from workbench.knobs import knob
from workbench.models.base import LanguageModel, ModelInfo
from workbench.sites import Site

Columns = tuple[int, ...]
_HOW = "Name heads as layer.head and MLPs as MLP layer, or leave parts empty."


@dataclass(frozen=True)
class Scope:
    """Places that somebody picked in a network: layers, heads as (layer, head), and the layers whose MLPs were picked."""

    layers: tuple[int, ...] = ()
    heads: tuple[tuple[int, int], ...] = ()
    mlps: tuple[int, ...] = ()

    @property
    def blocks(self) -> tuple[int, ...]:
        """The layers, and those of the heads and MLPs, in order."""
        return tuple(sorted({*self.layers, *(layer for layer, _ in self.heads), *self.mlps}))

    @property
    def parts(self) -> tuple[str, ...] | None:
        """The heads, as `3.7`, and the MLPs, as `MLP 3`, in the order of the network; None where whole layers were picked too."""
        told = [((layer, head), f"{layer}.{head}") for layer, head in self.heads]
        told += [((layer, sys.maxsize), f"MLP {layer}") for layer in self.mlps]
        return None if self.layers or not told else tuple(name for _, name in sorted(told))


def parts_knob(otherwise: str = "whole layers") -> Any:
    """The knob `parts`, whose words are the same wherever it stands; `otherwise`: what changes where none are named."""
    return knob(
        None,
        label="Only these heads and MLPs",
        help="Heads as layer.head and MLPs as MLP layer, say 3.7 and MLP 4, as Inspect hands them over: nothing else changes. A head "
        f"changes by what it writes. Empty: {otherwise}.",
    )


@dataclass(frozen=True)
class Holds:
    """The kinds of site by which a method acts on a head alone, and on an MLP alone; empty: it cannot. `together`: on both in one edit."""

    heads: tuple[str, ...] = ()
    mlps: tuple[str, ...] = ()
    together: bool = True

    def left(self, scope: Scope) -> Scope:
        """The heads and MLPs of a scope that a method is held to; none where it takes layers."""
        if scope.layers:
            return Scope()
        heads, mlps = scope.heads if self.heads else (), scope.mlps if self.mlps else ()
        return Scope((), heads, mlps if self.together or not heads else ())

    def lacking(self, model: LanguageModel, scope: Scope) -> tuple[str, ...]:
        """The sites that a model lacks where a method would be held, such as `w_in@3` in a mixture of experts."""
        held = self.left(scope)
        wanted = [(kind, layer) for layer, _ in held.heads for kind in self.heads]
        wanted += [(kind, layer) for layer in held.mlps for kind in self.mlps]
        return tuple(dict.fromkeys(f"{kind}@{layer}" for kind, layer in wanted if layer not in model.layers_of(kind)))


def parts_of(info: ModelInfo, parts: Sequence[str]) -> Scope:
    """Return the heads and MLPs that parts name, each once and in order.

    Raises:
        BadKnob: a part is no head and no MLP of the model, or none is named.
    """
    places = {_place(info, part) for part in parts}
    if not places:
        raise BadKnob("No head and no MLP is named.", _HOW)
    heads = tuple(sorted((layer, head) for layer, head in places if head is not None))
    return Scope((), heads, tuple(sorted(layer for layer, head in places if head is None)))


MATRICES = Holds(("w_o",), ("w_in", "w_out"))
"""How an edit of weights is held: a head by what it writes, an MLP by both of its matrices."""


def part_sites(model: LanguageModel, parts: Sequence[str]) -> Mapping[Site, Columns | None]:
    """The matrices of heads and MLPs, and which of a matrix's inputs may be seen; None: all of them.

    Raises:
        BadKnob: a part is no head and no MLP of the model, or none is named.
    """
    named, d_head = parts_of(model.info, parts), model.info.d_head
    columns: dict[Site, set[int]] = {}
    for layer, head in named.heads:
        columns.setdefault(Site("w_o", layer), set()).update(range(head * d_head, (head + 1) * d_head))
    found: dict[Site, Columns | None] = {site: tuple(sorted(told)) for site, told in columns.items()}
    wanted = {**found, **{Site(kind, layer): None for layer in named.mlps for kind in MATRICES.mlps}}
    if lacking := MATRICES.lacking(model, named):
        raise BadKnob(f"{model.info.name} has no {', '.join(lacking)}.", _HOW)
    return dict(sorted(wanted.items(), key=lambda item: (item[0].layer or 0, item[0].kind != "w_o", item[0].kind)))


def blocks_of(parts: Sequence[str]) -> tuple[int, ...]:
    """The layers of some parts, in order. Raises: BadKnob: a part is no head and no MLP."""
    return tuple(sorted({_read(part)[0] for part in parts}))


def _place(info: ModelInfo, part: str) -> tuple[int, int | None]:
    layer, head = _read(part)
    if layer >= info.n_layers or (head is not None and head >= info.n_heads):
        raise BadKnob(f"{part} is asked for; the model has layers 0 to {info.n_layers - 1} of {info.n_heads} heads.", "Name another.")
    return layer, head


def _read(part: str) -> tuple[int, int | None]:
    name = part.strip()
    is_mlp = name.upper().startswith("MLP")
    layer, _, head = (name[3:].strip() if is_mlp else name).partition(".")
    if not layer.isdigit() or (bool(head) == is_mlp) or (head and not head.isdigit()):
        raise BadKnob(f"{part!r} is no head and no MLP.", "Write a head as 3.7 and an MLP as MLP 3.")
    return int(layer), int(head) if head else None
