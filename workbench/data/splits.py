"""Draw fit, validation and test by what belongs together, so that no question or entity is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.errors import NotEnoughData

# 40 / 10 / 50 by question, as the Householder paper's README states it (docs/methods/shared.md §1).
SHARES = (0.4, 0.1)
# Below this, holding anything out leaves too little to fit on.
MIN_GROUPS = 10


def normalised(text: str) -> str:
    """The text without case, and with single spaces."""
    return " ".join(text.casefold().split())


def groups_of(row: Demonstration) -> tuple[str, ...]:
    """What a row must not share with another split: its questions and entities, and what it asks when it names none.

    Answers in several phrasings of one prompt are one group, under whatever system turn it is asked.
    """
    tags = tuple(f"{key}:{normalised(value)}" for key in ("entity", "question") for value in row.all_tagged(key))
    return tags or (f"prompt:{normalised(row.question)}",)


def assigned(rows: Sequence[Demonstration], seed: int = 0, shares: tuple[float, float] = SHARES) -> tuple[Demonstration, ...]:
    """Give each row a split, whole groups at a time: of the groups in a seeded order the first share is for fitting.

    The draw depends on the groups' names and the seed, not on the order of rows. Fewer than ten groups all go to fit.
    """
    first = {row: groups_of(row)[0] for row in rows}
    order = sorted(set(first.values()), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    if len(order) < MIN_GROUPS:
        return tuple(replace(row, split="fit") for row in rows)
    n_fit = max(1, round(shares[0] * len(order)))
    n_validation = max(1, round(shares[1] * len(order)))
    split: dict[str, Split] = {
        name: "fit" if i < n_fit else "validation" if i < n_fit + n_validation else "test" for i, name in enumerate(order)
    }
    return tuple(replace(row, split=split[first[row]]) for row in rows)


def reassigned(demonstrations: Demonstrations, seed: int = 0, shares: tuple[float, float] = SHARES) -> Demonstrations:
    """The same rows with splits drawn anew."""
    return demonstrations.with_rows(assigned(demonstrations.rows, seed, shares))


def held_apart(demonstrations: Demonstrations, nth: int = 4) -> tuple[Demonstrations, Demonstrations]:
    """The rows without every `nth` group, and those of every `nth` group: to judge by what no row of a fit asks.

    Raises:
        NotEnoughData: the rows are of one group alone, of which nothing can be held out.
    """
    first = {row: groups_of(row)[0] for row in demonstrations}
    names = list(dict.fromkeys(first.values()))
    if len(names) < 2:
        raise NotEnoughData(
            f"{demonstrations.name!r} asks {len(names)} prompt in its {len(first)} rows; 2 are needed to fit on one and judge by another.",
            "Add rows of other prompts, or mark rows of another prompt validation.",
        )
    held = set(names[nth - 1 :: nth] or names[-1:])
    return demonstrations.where(lambda row: first[row] not in held), demonstrations.where(lambda row: first[row] in held)
