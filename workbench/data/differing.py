"""Which tokens of two texts are in one alone, by the longest runs that they share."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher


def differing(one: Sequence[str], other: Sequence[str]) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """For each token of either text, whether it is in none of the runs that both share."""
    mine, theirs = [True] * len(one), [True] * len(other)
    for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        mine[block.a : block.a + block.size] = [False] * block.size
        theirs[block.b : block.b + block.size] = [False] * block.size
    return tuple(mine), tuple(theirs)
