"""What heads do on one prompt, read off their attention: look at the token before, at the first, back to what came after the last time.

Ref: induction score as in arXiv 2209.11895: attention from a token that occurred before to the token after its earlier occurrence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.lenses.attention import AttentionPatterns
from workbench.shapes import Float

WORDS: Mapping[str, str] = {
    "looks back to what came after": "Mean attention from a token that stood before to the token after its earlier place: induction.",
    "looks at the token before": "Mean attention from each token to the one before it.",
    "looks at the first token": "Mean attention from each token but the first to the first: a head with nothing to do.",
    "looks at the same word": "Mean attention from a token that stood before in the prompt to its earlier places.",
}


def head_kinds(found: AttentionPatterns) -> dict[str, Float[np.ndarray, "lane layer head"]]:
    """Return a score in [0, 1] a head for each kind in `WORDS`; NaN where the prompt offers no such place."""
    again = [(i, j) for i, token in enumerate(found.tokens) for j in range(i) if found.tokens[j] == token]
    after = [(i, j + 1) for i, j in again if j + 1 < i]
    before = [(i, i - 1) for i in range(1, len(found.tokens))]
    first = [(i, 0) for i in range(1, len(found.tokens))]
    return {name: _summed(found, places) for name, places in zip(WORDS, (after, before, first, again))}


def _summed(found: AttentionPatterns, places: list[tuple[int, int]]) -> Float[np.ndarray, "lane layer head"]:
    """Attention summed over the keys of each query, mean over queries."""
    if not places:
        return np.full(found.pattern.shape[:3], np.nan)
    queries = [i for i, _ in places]
    return found.pattern[..., queries, [j for _, j in places]].sum(-1) / len(set(queries))
