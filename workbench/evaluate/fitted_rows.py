"""Which rows of a set are evidence: none that an edit has seen, whatever happened to the set since, and none twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.data.sides import concepts, side_of
from workbench.edits.base import Edit
from workbench.errors import FittedRows

NEARLY_ALL = 0.9
"""Share of rows with a question of their own above which those few that share one are no matter."""


@dataclass(frozen=True)
class HeldOut:
    """The rows to score, the ids of those that were fitted on and are left out, and in words why, or what else is to be known."""

    rows: Demonstrations
    left_out: tuple[str, ...] = ()
    why: str = ""


def without_fitted(demonstrations: Demonstrations, split: Split | None, edits: Sequence[Edit], shown: Sequence[str] = ()) -> HeldOut:
    """The rows of a split (None: all) that can be scored, without those that an edit was fitted on.

    Those are told by what they ask and answer, not by id or split.

    Split `fit` is given whole: who asks for it wants to see what was fitted, and is told so. A row that stands there twice counts once.

    Args:
        shown: marks of further rows that a lane has seen, such as its shots.

    Raises:
        FittedRows: no row is left.
    """
    names = concepts(demonstrations.split("fit")) or concepts(demonstrations)
    rows = (demonstrations if split is None else demonstrations.split(split)).where(
        lambda row: bool(row.positive or row.label or row.all_tagged("true") or side_of(row, names, None))
    )
    if split == "fit":
        return HeldOut(rows, why="These rows are for fitting: a score on them flatters." if edits else "")
    # An edit of an older version names its set alone; one made by hand was fitted on none.
    older = [edit for edit in edits if edit.header.data and not edit.header.rows]
    is_known = all(demonstrations.is_data_of(edit.header.data, edit.header.system) for edit in older)
    marks = {*shown, *(mark for edit in edits for mark in edit.header.rows)}
    kept = rows.not_among(marks | set(demonstrations.fitted_marks) if older and is_known else marks)
    still = set(kept)
    gone = tuple(row.id or f"row {at}" for at, row in enumerate(rows, 1) if row not in still)
    if gone and not still:
        raise FittedRows(
            f"All {len(rows)} rows of split {split or 'any'} in {rows.name!r} were fitted on; none is left to score.",
            "Choose a set that the edit has not seen, or fit again with these rows marked test.",
        )
    once = kept.with_rows({_asked(row): row for row in kept}.values())
    told = (_told(len(gone)), _copies(len(kept) - len(once)), _shared(once), _chosen(once) if edits else "", "" if is_known else _UNKNOWN)
    return HeldOut(once, gone, " ".join(filter(None, told)))


_UNKNOWN = "An edit of an older version does not say which rows it was fitted on; some may be among these."


def _told(n: int) -> str:
    if not n:
        return ""
    return "1 row that was fitted on is left out." if n == 1 else f"{n:,} rows that were fitted on are left out."


def _asked(row: Demonstration) -> tuple[object, ...]:
    """All of a row that a score depends on."""
    return row.prompt, row.positive, row.negative, row.label, row.loss, row.all_tagged("true"), row.all_tagged("false")


def _copies(n: int) -> str:
    if not n:
        return ""
    return "1 row is a copy of another and not counted." if n == 1 else f"{n:,} rows are copies of others and not counted."


def _shared(rows: Demonstrations) -> str:
    n = len(set(rows.prompts()))
    if n > NEARLY_ALL * len(rows):
        return ""
    return f"The {len(rows):,} rows ask {n:,} different questions: as evidence they are nearer to {n:,}, and intervals are too narrow."


def _chosen(rows: Demonstrations) -> str:
    n = len(rows.split("validation"))
    return f"{n:,} of these rows are of split validation: where they chose the edit's settings, the score flatters." if n else ""
