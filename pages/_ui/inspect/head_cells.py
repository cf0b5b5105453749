"""Inspect: a number a head as a grid that can be picked from."""

from __future__ import annotations

from collections.abc import Sequence

from pages._ui.kit import words
from pages._ui.kit.components import grid


def head_grid(values: Sequence[Sequence[float]], *, key: str, scale: float, signed: bool) -> tuple[int, int] | None:
    """A clickable cell a head, layers down."""
    layers, heads = [f"layer {i}" for i in range(len(values))], [str(j) for j in range(len(values[0]) if values else 0)]
    texts = [[words.number(x) for x in line] for line in values]
    return grid(layers, heads, values, key=key, scale=scale, signed=signed, texts=texts, corner="head", column_word="Head")
