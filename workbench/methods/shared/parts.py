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
from workbench.models.base import LanguageModel
from workbench.sites import Site

Columns = tuple[int, ...]


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


def parts_knob() -> Any:
    """The knob `parts`, whose words are the same wherever it stands."""
    return knob(
        None,
        label="Only these heads and MLPs",
        help="Heads as layer.head and MLPs as MLP layer, say 3.7 and MLP 4, as Inspect hands them over: nothing else changes. A head "
        "changes by what it writes. Empty: whole layers.",
    )


def part_sites(model: LanguageModel, parts: Sequence[str]) -> Mapping[Site, Columns | None]:
    """The matrices of heads and MLPs, and which of a matrix's inputs may be seen; None: all of them.

    Raises:
        BadKnob: a part is no head and no MLP of the model, or none is named.
    """
    columns: dict[Site, set[int]] = {}
    mlps: dict[Site, None] = {}
    for part in parts:
        layer, head = _place(model, part)
        if head is None:
            mlps |= {Site(kind, layer): None for kind in ("w_in", "w_out")}
        else:
            d_head = model.info.d_head
            columns.setdefault(Site("w_o", layer), set()).update(range(head * d_head, (head + 1) * d_head))
    found: dict[Site, Columns | None] = {site: tuple(sorted(told)) for site, told in columns.items()}
    known = set(model.sites())
    wanted = {**found, **mlps}
    lacking = [str(site) for site in wanted if site not in known]
    if lacking or not wanted:
        what = f"{model.info.name} has no {', '.join(lacking)}." if lacking else "No head and no MLP is named."
        raise BadKnob(what, "Name heads as layer.head and MLPs as MLP layer, or leave parts empty.")
    return dict(sorted(wanted.items(), key=lambda item: (item[0].layer or 0, item[0].kind != "w_o", item[0].kind)))


def blocks_of(parts: Sequence[str]) -> tuple[int, ...]:
    """The layers of some parts, in order. Raises: BadKnob: a part is no head and no MLP."""
    return tuple(sorted({_read(part)[0] for part in parts}))


def _place(model: LanguageModel, part: str) -> tuple[int, int | None]:
    layer, head = _read(part)
    if layer >= model.info.n_layers or (head is not None and head >= model.info.n_heads):
        raise BadKnob(
            f"{part} is asked for; the model has layers 0 to {model.info.n_layers - 1} of {model.info.n_heads} heads.", "Name another."
        )
    return layer, head


def _read(part: str) -> tuple[int, int | None]:
    name = part.strip()
    is_mlp = name.upper().startswith("MLP")
    layer, _, head = (name[3:].strip() if is_mlp else name).partition(".")
    if not layer.isdigit() or (bool(head) == is_mlp) or (head and not head.isdigit()):
        raise BadKnob(f"{part!r} is no head and no MLP.", "Write a head as 3.7 and an MLP as MLP 3.")
    return int(layer), int(head) if head else None
