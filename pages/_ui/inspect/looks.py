"""Inspect: where a head looks from one token of a text, as a strip; its whole pattern, as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.components import grid, pinned, token_strip

if TYPE_CHECKING:  # shapes wait for torch
    import numpy as np

    from workbench.shapes import Float


def looks(tokens: Sequence[str], pattern: Float[np.ndarray, "query key"], *, key: str) -> int:
    """Draw the text, coloured by how much one token looks at each; return that token: the last, until another is picked."""
    at = pinned(f"{key}-query", len(tokens))
    at = len(tokens) - 1 if at is None else at
    shares = [float(x) for x in pattern[at]]
    token_strip(tokens, key=f"{key}-query", values=shares, notes=[f"{x:.2f}" for x in shares], start=at)
    return at


def whole(tokens: Sequence[str], pattern: Float[np.ndarray, "query key"], *, key: str) -> None:
    """Draw the pattern, folded: a row a token that looks."""
    with st.expander("The whole pattern"):
        n = len(tokens)
        shares = [[*line[: i + 1].tolist(), *[None] * (n - i - 1)] for i, line in enumerate(pattern)]
        grid(tokens, tokens, shares, key=key, corner="from ↓ to →", row_word="From", column_word="To")
