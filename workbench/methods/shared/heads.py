"""Heads that somebody named, as `layer.head`."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import BadKnob
from workbench.models.base import ModelInfo


def head_pairs(names: Sequence[str], info: ModelInfo) -> tuple[tuple[int, int], ...]:
    """Return heads as (layer, head), in the order of the network, each once.

    Raises:
        BadKnob: a head is not written layer.head, or the model does not have it.
    """
    pairs: set[tuple[int, int]] = set()
    for text in names:
        layer, dot, head = text.partition(".")
        if not (dot and layer.isdigit() and head.isdigit() and int(layer) < info.n_layers and int(head) < info.n_heads):
            raise BadKnob(
                f"{text!r} is no head of a model with {info.n_layers} layers of {info.n_heads} heads.", "Write layer.head, for example 3.5."
            )
        pairs.add((int(layer), int(head)))
    return tuple(sorted(pairs))
