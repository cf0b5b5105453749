"""The editable table of demonstrations: a constant base frame, and the editor's changes merged onto it when they come.

The editor keeps its own state over the base (Streamlit: feeding results back loses edits), so the base changes only when another set,
an import or an undo asks for it; each change is a version on disk before the page is drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import streamlit as st

from workbench.conversations import from_a_cell, in_a_cell
from workbench.data.demonstrations import COLUMNS, SPLITS, Demonstration, Demonstrations

_HIDDEN = ("neutral", "label", "loss")


@dataclass
class Editor:
    """The editor of a tab: which set it shows, its constant base, how often it was drawn anew, and why the last change was not kept."""

    chosen: str = ""
    base: Demonstrations = field(default_factory=lambda: Demonstrations(()))
    turn: int = 0
    error: Exception | None = None
    of_tab: ClassVar[bool] = True  # sets are those of every model

    def restart(self) -> None:
        """Draw the table anew from what is on disk."""
        self.chosen = ""


def as_records(demonstrations: Demonstrations) -> list[dict[str, Any]]:
    """Rows as the table shows them; tags in one text, a conversation as the JSON of its messages."""
    return [
        {name: getattr(row, name) for name in COLUMNS} | {"prompt": in_a_cell(row.prompt), "tags": ", ".join(row.tags)}
        for row in demonstrations
    ]


def merged(base: Demonstrations, changes: Mapping[str, Any]) -> Demonstrations:
    """The base with the editor's `edited_rows`, `added_rows` and `deleted_rows`; rows without a prompt are left out."""
    rows = list(base.rows)
    for index, cells in changes.get("edited_rows", {}).items():
        rows[int(index)] = _changed(rows[int(index)], cells)
    gone = set(changes.get("deleted_rows", ()))
    kept = [row for i, row in enumerate(rows) if i not in gone]
    added = [_changed(Demonstration(""), cells) for cells in changes.get("added_rows", ())]
    return base.with_rows([row for row in (*kept, *added) if str(row.prompt).strip()])


def _changed(row: Demonstration, cells: Mapping[str, Any]) -> Demonstration:
    values = {name: value for name, value in cells.items() if name in COLUMNS}
    if "tags" in values:
        values["tags"] = tuple(part.strip() for part in (values["tags"] or "").split(",") if part.strip())
    if values.get("split", row.split) not in SPLITS:
        values["split"] = "fit"
    for name in ("prompt", "id"):
        if name in values:
            values[name] = values[name] or ""
    if "prompt" in values:
        values["prompt"] = from_a_cell(values["prompt"])
    return replace(row, **values)


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
        "tags": st.column_config.TextColumn("tags", help="Several with commas between them."),
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
    found = {split: len(demonstrations.split(split)) for split in SPLITS}
    return " · ".join(f"{n} {split}" for split, n in found.items() if n)
