"""What a check found, mended where that can be done without asking: a new version of the set, which an undo takes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from workbench.data.checks import BALANCE_LIMIT, Check
from workbench.data.columns import spaced
from workbench.data.demonstrations import SPLITS, Demonstration, Demonstrations
from workbench.data.near import near_pairs
from workbench.data.splits import linked, normalised
from workbench.errors import BadDemonstrations

_Rows = tuple[Demonstration, ...]
_ENDINGS = (".", "!", "?")
_SIDES = ("positive", "negative")


@dataclass(frozen=True)
class Mend:
    """What a mend does, as a verb for a button, and how."""

    verb: str
    do: Callable[[_Rows, Sequence[int]], _Rows]


def _without(rows: _Rows, found: Sequence[int]) -> _Rows:
    gone = set(found)
    return tuple(row for i, row in enumerate(rows) if i not in gone)


def _spaced(rows: _Rows, found: Sequence[int]) -> _Rows:
    return _changed(rows, found, lambda row: replace(row, **spaced({"prompt": row.prompt} | _filled(row))))


def _filled(row: Demonstration) -> dict[str, Any]:
    return {name: text for name in (*_SIDES, "label") if (text := getattr(row, name)) is not None}


def _ended(rows: _Rows, found: Sequence[int]) -> _Rows:
    """Both sides with a full stop where most answers have one, both without where most have none."""
    texts = [text.rstrip() for row in rows if row.positive and row.negative for text in (row.positive, row.negative)]
    puts = 2 * sum(text.endswith(_ENDINGS) for text in texts) >= len(texts)

    def end(text: str) -> str:
        bare = text.rstrip()
        if puts:
            return bare if bare.endswith(_ENDINGS) else f"{bare}."
        return bare.rstrip("".join(_ENDINGS)) or bare

    return _changed(rows, found, lambda row: replace(row, **{name: end(text) for name in _SIDES if (text := getattr(row, name))}))


def _changed(rows: _Rows, found: Sequence[int], how: Callable[[Demonstration], Demonstration]) -> _Rows:
    chosen = set(found)
    return tuple(how(row) if i in chosen else row for i, row in enumerate(rows))


def _together(rows: _Rows, found: Sequence[int]) -> _Rows:
    """What belongs together in one split: that of fit if any of it is there, as it may have been fitted on; else validation before test."""
    groups = linked(rows, also=near_pairs([normalised(row.question) for row in rows]))
    wanted = {groups[i] for i in found}
    there = {(group, row.split) for row, group in zip(rows, groups)}
    first = {group: next(split for split in SPLITS if (group, split) in there) for group in wanted}
    return tuple(replace(row, split=first[group]) if group in wanted else row for row, group in zip(rows, groups))


def _balanced(rows: _Rows, found: Sequence[int]) -> _Rows:
    """At most `BALANCE_LIMIT` rows of a class for each of the rarest; those that are left out are drawn by a fixed seed."""
    del found  # they are the rare ones; the common ones are too many
    names = [row.tagged("class") or row.label for row in rows]
    most = int(BALANCE_LIMIT * min(Counter(name for name in names if name).values()))
    order = list(range(len(rows)))
    Random(0).shuffle(order)
    taken, kept = Counter[str](), set[int]()
    for i in order:
        name = names[i]
        if name is None or taken[name] < most:
            kept.add(i)
            taken[name or ""] += name is not None
    return tuple(row for i, row in enumerate(rows) if i in kept)


MENDS: Mapping[str, Mend] = {
    "empty": Mend("Take the rows out", _without),
    "same_text": Mend("Take the rows out", _without),
    "duplicates": Mend("Take the copies out", _without),
    "leading_space": Mend("Put the spaces right", _spaced),
    "final_period": Mend("End both sides alike", _ended),
    "leak": Mend("Put each question into one split", _together),
    "near_duplicates": Mend("Put them into one split", _together),
    "classes": Mend("Leave some of the common class out", _balanced),
}


def mended(demonstrations: Demonstrations, check: Check) -> Demonstrations:
    """The set with what the check found put right. _Rows keep their ids and their order.

    Raises:
        BadDemonstrations: it cannot be put right without asking.
    """
    if check.name not in MENDS:
        raise BadDemonstrations(f"{check.title} cannot be mended by itself.", check.advice)
    return demonstrations.with_rows(MENDS[check.name].do(demonstrations.rows, check.rows)) if check.count else demonstrations
