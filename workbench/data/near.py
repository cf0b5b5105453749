"""Texts that are nearly the same: equal but for punctuation and case, or sharing most runs of three words.

Law: J(a, b) = |A ∩ B| / |A ∪ B| of the sets of three-word runs, at least `SIMILAR`. A set can reach t with another only if they share one
of its first |A| − ⌈t |A|⌉ + 1 members in a common order, rare ones first: only these are looked up. One word changed among ten leaves
J ≈ 0.4, so rows of one template are no near-duplicates of each other.
Ref: Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search", §3.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

SIMILAR = 0.8
_WORD = re.compile(r"\w+")
_RUN = 3


def near_pairs(texts: Sequence[str], similar: float = SIMILAR) -> list[tuple[int, int]]:
    """Index pairs (lower first) of texts that are nearly or entirely the same; of many alike, each with the first of them at least.

    Time grows with the number of texts and of the pairs found, not with all pairs.
    """
    words = [tuple(_WORD.findall(text.casefold())) for text in texts]
    first: dict[tuple[str, ...], int] = {}
    found = [(first[told], i) for i, told in enumerate(words) if told and first.setdefault(told, i) != i]
    runs = {i: frozenset(told[at : at + _RUN] for at in range(len(told) - _RUN + 1)) for told, i in first.items() if len(told) > _RUN}
    counts = Counter(run for members in runs.values() for run in members)
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, members in sorted(runs.items()):
        ordered = sorted(members, key=lambda run: (counts[run], run))
        prefix = ordered[: len(ordered) - math.ceil(similar * len(ordered)) + 1]
        for j in {j for run in prefix for j in seen[run]}:
            both = len(members & runs[j])
            if both >= similar * (len(members) + len(runs[j]) - both):
                found.append((j, i))
        for run in prefix:
            seen[run].append(i)
    return sorted(found)
