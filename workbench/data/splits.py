"""Draw fit, validation and test by what belongs together, so that no question or entity is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.errors import BadDemonstrations, NotEnoughData

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
    order = sorted(set(first.values()), key=lambda name: _hash(seed, name))
    if len(order) < MIN_GROUPS:
        return tuple(replace(row, split="fit") for row in rows)
    n_fit = max(1, round(shares[0] * len(order)))
    n_validation = max(1, round(shares[1] * len(order)))
    split: dict[str, Split] = {
        name: "fit" if i < n_fit else "validation" if i < n_fit + n_validation else "test" for i, name in enumerate(order)
    }
    return tuple(replace(row, split=split[first[row]]) for row in rows)


def linked(rows: Sequence[Demonstration], by: str | None = None, also: Iterable[tuple[int, int]] = ()) -> list[int]:
    """A number for each row, equal for rows that must share a split: those of one question or entity, or linked by others.

    by: a tag's key, whose value alone then says what belongs together; rows without it go by what they ask.
    also: places of rows that belong together for another reason.
    """
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        value = row.tagged(by) if by else None
        for name in groups_of(row) if value is None else (f"{by}:{normalised(value)}",):
            parent[root(i)] = root(first.setdefault(name, i))
    for one, other in also:
        parent[root(one)] = root(other)
    return [root(i) for i in range(len(rows))]


def reassigned(
    demonstrations: Demonstrations,
    seed: int = 0,
    shares: tuple[float, float] = SHARES,
    *,
    by: str | None = None,
    stratify: str | None = None,
) -> Demonstrations:
    """The same rows with splits drawn anew, whole groups at a time (`linked`).

    Args:
        shares: of the groups, for fitting and for validation; the rest is test.
        stratify: a tag's key, or `label`: each of its values has these shares, as far as whole groups allow.

    Raises:
        NotEnoughData: fewer than three groups. BadDemonstrations: shares that leave nothing, or too much.
    """
    fit, validation = shares
    if min(shares) < 0 or fit <= 0 or fit + validation > 1:
        raise BadDemonstrations(
            f"Shares of {fit:g} and {validation:g} cannot be drawn.", "Give fit more than 0, and both together at most 1."
        )
    rows = demonstrations.rows
    groups = linked(rows, by)
    names = {group: min(f"{groups_of(rows[i])[0]} {rows[i].id}" for i in members) for group, members in _members(groups).items()}
    if len(names) < 3:
        raise NotEnoughData(
            f"{len(names)} groups cannot fill three splits.", "Group by something else, or add rows that ask something new."
        )
    strata: dict[str, list[int]] = {}
    for group in names:
        row = rows[group]
        value = (row.label if stratify == "label" else row.tagged(stratify)) if stratify else ""
        strata.setdefault(value or "", []).append(group)
    split: dict[int, Split] = {}
    for value, members in strata.items():
        ordered = sorted(members, key=lambda group: _hash(seed, names[group]))
        # A start of its own for each stratum: strata of one group each would otherwise all go the same way.
        start = int.from_bytes(_hash(seed, f"start {value}")[:4]) / 2**32 if len(strata) > 1 else 0.5
        for i, group in enumerate(ordered):
            at = (i + start) / len(ordered)
            split[group] = "fit" if at < fit else "validation" if at < fit + validation else "test"
    return demonstrations.with_rows(replace(row, split=split[group]) for row, group in zip(rows, groups))


def _members(groups: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return found


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


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
