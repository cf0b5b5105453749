"""The editable table of demonstrations: a constant base frame, and the editor's changes merged onto it when they come.

The editor keeps its own state over the base (Streamlit: feeding results back loses edits), so the base changes only when another set,
an import, an undo or a filter asks for it; each change is a version on disk before the page is drawn again. Of a large set the table
shows the first rows that the filter finds: a browser that got 100,000 at each rerun would stand still.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import streamlit as st

from pages._ui.kit.frame import problem
from workbench.conversations import from_a_cell, in_a_cell
from workbench.data.demonstrations import COLUMNS, SPLITS, Demonstration, Demonstrations
from workbench.data.formats import tags_of
from workbench.data.rows import BadRow
from workbench.data.sources import as_tags
from workbench.errors import BadDemonstrations

if TYPE_CHECKING:
    from workbench.session import Session

_HIDDEN = ("neutral", "label", "loss")
MANY = 1000
"""Rows that a table shows at most."""


@dataclass
class Editor:
    """The editor of a tab: which set it shows, and which version of it (None: it ships); its constant base and the rows of it that the
    table shows; how often it was drawn anew; and why the last change was not kept."""

    chosen: str = ""
    version: int | None = None
    base: Demonstrations = field(default_factory=lambda: Demonstrations(()))
    places: tuple[int, ...] = ()
    wanted: Hashable = None
    turn: int = 0
    error: Exception | None = None
    of_tab: ClassVar[bool] = True  # sets are those of every model

    def restart(self) -> None:
        """Draw the table anew from what is on disk."""
        self.chosen = ""


def rows_of(session: Session, chosen: str) -> Demonstrations | None:
    """The rows of a set; of one that is damaged, say what is wrong with it and return None."""
    try:
        return session.demos(chosen)
    except BadDemonstrations as error:
        problem(error, "set")
        return None


def places_of(demonstrations: Demonstrations, wanted: str = "", among: Collection[int] | None = None) -> tuple[int, ...]:
    """The first rows among some (None: all), at most as many as a table shows, in which a text, a tag, the split or the id holds what is
    wanted, in any case."""
    sought = wanted.strip().casefold()
    found = (
        i
        for i, row in enumerate(demonstrations)
        if (among is None or i in among) and (not sought or any(sought in text.casefold() for text in _texts(row)))
    )
    return tuple(islice(found, MANY))


def _texts(row: Demonstration) -> list[str]:
    sides = [row.positive, row.negative, row.neutral, row.label, row.loss]
    return [str(row.prompt), *(text for text in sides if text), *row.tags, row.split, row.id]


def as_records(demonstrations: Demonstrations) -> list[dict[str, Any]]:
    """Rows as the table shows them; tags in one text as in a CSV file, a conversation as the JSON of its messages."""
    return [
        {name: getattr(row, name) for name in COLUMNS} | {"prompt": in_a_cell(row.prompt), "tags": as_tags(row.tags)}
        for row in demonstrations
    ]


def merged(base: Demonstrations, changes: Mapping[str, Any], places: Sequence[int] | None = None) -> Demonstrations:
    """The base with the editor's `edited_rows`, `added_rows` and `deleted_rows`; rows without a prompt are left out.

    places: which rows of the base the editor shows, in order; None is all.
    """
    rows = list(base.rows)
    at = range(len(rows)) if places is None else places
    for index, cells in changes.get("edited_rows", {}).items():
        rows[at[int(index)]] = _changed(rows[at[int(index)]], cells)
    gone = {at[index] for index in changes.get("deleted_rows", ())}
    kept = [row for i, row in enumerate(rows) if i not in gone]
    added = [_changed(Demonstration(""), cells) for cells in changes.get("added_rows", ())]
    return base.with_rows([row for row in (*kept, *added) if str(row.prompt).strip()])


def _changed(row: Demonstration, cells: Mapping[str, Any]) -> Demonstration:
    values = {name: value for name, value in cells.items() if name in COLUMNS}
    if "tags" in values:
        values["tags"] = _tags(values["tags"] or "")
    if values.get("split", row.split) not in SPLITS:
        values["split"] = "fit"
    for name in ("prompt", "id"):
        if name in values:
            values[name] = values[name] or ""
    if "prompt" in values:
        values["prompt"] = from_a_cell(values["prompt"])
    return replace(row, **values)


def _tags(cell: str) -> tuple[str, ...]:
    try:
        return tags_of(cell)
    except BadRow:  # a list that somebody is typing: kept as it stands
        return (cell,)


def editor(base: Demonstrations, key: str, on_change: Callable[[], None]) -> None:
    """Draw the editor of a base; read its changes in `on_change` from `st.session_state[key]`."""
    import pandas as pd

    used = [name for name in COLUMNS if name not in _HIDDEN or any(getattr(row, name) for row in base)]
    config = {
        "prompt": st.column_config.TextColumn("prompt", width="medium", required=True),
        "positive": st.column_config.TextColumn(
            "positive", help="The continuation that the edit should prefer; it begins with its own space."
        ),
        "negative": st.column_config.TextColumn("negative", help="The continuation that it should leave."),
        "split": st.column_config.SelectboxColumn("split", options=list(SPLITS), width="small", default="fit"),
        "tags": st.column_config.TextColumn("tags", help="Several with ; between them."),
    }
    st.data_editor(
        pd.DataFrame(as_records(base), columns=list(COLUMNS)),
        column_order=used,
        column_config=config,
        num_rows="dynamic",
        hide_index=True,
        width="stretch",
        height=430,
        key=key,
        on_change=on_change,
    )


def as_jsonl(demonstrations: Demonstrations) -> str:
    """One JSON object a line, empty columns left out."""
    return "".join(
        json.dumps({name: value for name, value in row.values().items() if value not in (None, "", ())}, ensure_ascii=False) + "\n"
        for row in demonstrations
    )


def counts(demonstrations: Demonstrations) -> str:
    """`36 fit · 12 validation · 24 test`"""
    found = Counter(row.split for row in demonstrations)
    return " · ".join(f"{found[split]} {split}" for split in SPLITS if found[split])
