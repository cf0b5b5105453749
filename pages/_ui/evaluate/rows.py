"""Who was helped and who was harmed: the scored rows before and after an edit, to be sorted, filtered and opened in Compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.evaluate import influence
from pages._ui.kit import words
from pages._ui.kit.figures import as_csv
from pages._ui.kit.state import MAX_LANES, state

if TYPE_CHECKING:
    from workbench.edits.labels import LaneLabel
    from workbench.evaluate.benefit import Benefit

MOVES = ("Moved the wrong way", "Turned right → wrong", "Turned wrong → right", "Moved the right way")
_GLIMPSE = 2
_COLUMNS = {
    "moved": st.column_config.TextColumn(help="Whether the score of this row got better or worse."),
    "turned": st.column_config.TextColumn(help="Whether the model's first choice among the listed answers became wrong, or right."),
    "before": st.column_config.NumberColumn(format="%.3f", help="The row's score without the edit."),
    "after": st.column_config.NumberColumn(format="%.3f", help="The row's score with the edit."),
    "gain": st.column_config.NumberColumn(format="%.3f", help="How much better the score became; below 0 the row was harmed."),
    "template": st.column_config.TextColumn(help="What the prompt shares with others; … stands for the rest."),
    "words": st.column_config.NumberColumn(help="Length of the prompt, in words."),
}


def draw_rows(benefit: Benefit, *, key: str) -> None:
    """The rows of a lane in a table, the most harmed first, with filters; a chosen row opens in Compare."""
    from workbench.evaluate.moved import moved_rows

    lanes = [at for at, lane in enumerate(benefit.lanes) if at and any(item["lane"] == lane.label for item in benefit.items)]
    if not lanes:
        return
    _glimpse(moved_rows(benefit, lanes[0]), benefit.lanes[lanes[0]].label, key)
    with st.expander("Who was helped, who was harmed", key=f"{key}-rows"):
        names = {at: benefit.lanes[at].label for at in lanes}
        at = st.selectbox("Lane", lanes, format_func=names.__getitem__, key=f"{key}-rows-lane") if len(lanes) > 1 else lanes[0]
        shown = _filtered(moved_rows(benefit, at), key)
        picked = st.dataframe(
            shown, hide_index=True, width="stretch", column_config=_COLUMNS, key=f"{key}-rows-table", on_select="rerun",
            selection_mode="single-row",
        ).selection["rows"]  # fmt: skip
        st.caption(f"{words.count(len(shown), 'row')}. Choose one to open it in Compare, or to see the demonstrations behind it.")
        with st.container(horizontal=True):
            chosen = shown[picked[0]] if picked and picked[0] < len(shown) else None
            if st.button("Open in Compare", key=f"{key}-rows-open", disabled=chosen is None) and chosen is not None:
                _open(benefit.lanes[at], str(chosen["prompt"]))
            if len(benefit.lanes[at].edit_ids) == 1 and st.button(
                "Which demonstrations did it",
                key=f"{key}-rows-blame",
                help="Who pushes this row, or which, and the fit again without them.",
            ):
                influence.ask(benefit.lanes[at].edit_ids[0], "" if chosen is None else str(chosen["prompt"]), benefit.split)
            st.download_button("CSV", lambda: as_csv(shown), "retouch-rows.csv", "text/csv", key=f"{key}-rows-csv", type="tertiary")


def _glimpse(rows: Sequence[dict[str, Any]], lane: str, key: str) -> None:
    """A few rows that turned, right ones and wrong ones, with the first choice of the untouched model beside that of a lane."""
    right, wrong = ([row for row in rows if row["turned"].endswith(way)] for way in ("right", "wrong"))
    # The worst stand first: at the end are those that gained most.
    shown = [(row, "✗", "✓") for row in right[: -_GLIMPSE - 1 : -1]] + [(row, "✓", "✗") for row in wrong[:_GLIMPSE]]
    if not shown:
        return
    st.dataframe(
        [
            {"prompt": row["prompt"], "untouched": f"{was} {row['answer before']}", lane: f"{now} {row['answer after']}"}
            for row, was, now in shown
        ],
        hide_index=True, width="stretch", key=f"{key}-glimpse",
    )  # fmt: skip
    given = f"{len(shown)} of the {words.count(len(right) + len(wrong), 'row')} that turned"
    st.caption(f"Right and wrong, side by side: the likeliest of the listed answers, {given}.")


def _filtered(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    tags = sorted({tag for row in rows for tag in str(row["tags"]).split()})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        move = st.selectbox("Show", [None, *MOVES], format_func=lambda one: one or "All rows", key=f"{key}-rows-move", width=220)
        wanted = st.multiselect("Tags", tags, key=f"{key}-rows-tags", width=260, placeholder="Any")
        shapes = st.multiselect(
            "Templates", list(Counter(row["template"] for row in rows)), key=f"{key}-rows-templates", width=260, placeholder="Any"
        )
        lengths = [int(row["words"]) for row in rows]
        low, high = min(lengths), max(lengths)
        span = (low, high)
        if low < high:
            span = st.slider("Length in words", low, high, span, key=f"{key}-rows-length", width=220)
    kept = [row for row in rows if _is_of(row, move) and _has(row, wanted) and span[0] <= int(row["words"]) <= span[1]]
    return [row for row in kept if not shapes or row["template"] in shapes]


def _is_of(row: dict[str, Any], move: str | None) -> bool:
    if move is None:
        return True
    return row["turned"] == move.removeprefix("Turned ") if move.startswith("Turned") else move.endswith(row["moved"])


def _has(row: dict[str, Any], wanted: Sequence[str]) -> bool:
    mine = set(str(row["tags"]).split())
    return not wanted or bool(mine & set(wanted))


def _open(lane: LaneLabel, prompt: str) -> None:
    now = state()
    if lane.lane not in now.lanes:
        now.lanes = (*now.lanes, lane.lane)[-MAX_LANES:]
    st.session_state["compare-prompts"] = prompt
    st.switch_page("pages/compare.py")
