"""Which rows of a set an edit has seen: those are never scored as held out, whatever happened to the set since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.base import Edit
from workbench.errors import FittedRows


@dataclass(frozen=True)
class HeldOut:
    """The rows to score, the ids of those that are left out, and in words why, or what is not known."""

    rows: Demonstrations
    left_out: tuple[str, ...] = ()
    why: str = ""


def without_fitted(demonstrations: Demonstrations, split: Split | None, edits: Sequence[Edit], shown: Sequence[str] = ()) -> HeldOut:
    """The rows of a split (None: all) without those that an edit was fitted on, told by what they ask and answer, not by id or split.

    Split `fit` is given whole: who asks for it wants to see what was fitted, and is told so.

    Args:
        shown: marks of further rows that a lane has seen, such as its shots.

    Raises:
        FittedRows: no row is left.
    """
    rows = demonstrations if split is None else demonstrations.split(split)
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
    return HeldOut(kept, gone, " ".join(filter(None, (_told(len(gone)), "" if is_known else _UNKNOWN))))


_UNKNOWN = "An edit of an older version does not say which rows it was fitted on; some may be among these."


def _told(n: int) -> str:
    if not n:
        return ""
    return "1 row that was fitted on is left out." if n == 1 else f"{n:,} rows that were fitted on are left out."
