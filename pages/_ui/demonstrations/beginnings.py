"""Demonstrations: a set begins with files, a paste, a Hugging Face dataset, a template, or empty; it is kept when it is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import streamlit as st

from pages._ui.demonstrations import columns, templates
from pages._ui.demonstrations.hub import hub_form
from pages._ui.kit import frame, jobs
from pages._ui.kit.rows import Editor, counts
from pages._ui.kit.state import part, state
from pages._ui.kit.words import count, plain
from workbench.data.pasting import pasted, read_pasted
from workbench.data.sources import Imported, head
from workbench.errors import RetouchError
from workbench.workspace.shelf import read_files

if TYPE_CHECKING:
    from workbench.progress import Progress
    from workbench.session import Session

Way = Literal["Files", "Paste", "Hugging Face", "Template", "Empty"]
WAYS: tuple[Way, ...] = ("Files", "Paste", "Hugging Face", "Template", "Empty")
_TYPES = ["jsonl", "ndjson", "json", "csv", "tsv", "txt", "parquet"]
_SHOWN = 5


@dataclass(frozen=True)
class Asked:
    """What is read, told from anything else by `mark`, and how its columns are mapped."""

    origin: str
    mark: str
    mapping: tuple[tuple[str, str], ...] = ()


@dataclass
class Opening:
    """How often this tab opened the dialog: files that a browser holds cannot be taken from their box, so each opening has a new one."""

    turn: int = 0
    of_tab: ClassVar[bool] = True


IMPORT: jobs.Slot[Asked, Imported] = jobs.Slot("import", of_tab=True)


def begin(session: Session, way: Way) -> None:
    """Open the dialog at one of its ways; what an earlier one read, and was told, is gone."""
    forget()
    part(Opening).turn += 1
    st.session_state.update({"new-set-way": way, "paste-text": "", "hub-dataset": "", "hub-where": ""})
    new_set_dialog(session)


def forget() -> None:
    """What was read and not opened leaves nothing behind."""
    jobs.cancel(IMPORT)
    jobs.drop(IMPORT)


@st.dialog("New set", width="large", on_dismiss=forget)
def new_set_dialog(session: Session) -> None:
    """Draw `new_set` over the page."""
    new_set(session)


def new_set(session: Session) -> None:
    """Choose where the rows come from, see what was read and what was not, open it as a set."""
    way = st.segmented_control("From", WAYS, key="new-set-way", required=True, label_visibility="collapsed")
    if way == "Paste":
        _paste(session)
    elif way == "Hugging Face":
        if (asked := hub_form()) is not None:
            source, mapping = asked
            how = dict(mapping) or None
            _read(session, Asked(source.dataset, str(source), mapping), lambda progress: source.read(how, progress))
    elif way == "Template":
        templates.panel(session)
    elif way == "Empty":
        name = st.text_input("Name", "my set", key="new-set-name")
        if st.button("Begin", type="primary", key="new-set-begin"):
            _open(session.demos.new(name).id)
    else:
        _files(session)


def _files(session: Session) -> None:
    st.caption(
        "JSONL, CSV, TSV or Parquet with the columns prompt, positive, negative, neutral, label, loss, tags, split, id. TruthfulQA, BBQ, "
        "StereoSet, canonical examples, RepE emotions and chats are recognised; of any other you say which column is which. "
        "Several files become one set."
    )
    given = st.file_uploader("Files", type=_TYPES, key=f"import-file-{part(Opening).turn}", accept_multiple_files=True)
    if not given:
        return
    files = [(item.getvalue(), item.name) for item in given]
    names = " and ".join(name for _, name in files)
    try:
        mapping = columns.mapping_form([record.values for record in head(files[0][0], files[0][1], _SHOWN)], "import")
    except RetouchError as error:
        frame.problem(error, "import-head")
        return
    if mapping is not None:
        mark = hashlib.sha256(b"\0".join(content for content, _ in files)).hexdigest()
        _read(session, Asked(names, mark, mapping), lambda _: read_files(files, mapping=dict(mapping) or None))


def _paste(session: Session) -> None:
    st.caption("Copy cells in a spreadsheet: prompt, positive, negative, tags, split; or with a header of any names. Lines of JSON go too.")
    text = st.text_area("Rows", key="paste-text", height=160, label_visibility="collapsed", placeholder="Paste here")
    if not text.strip():
        return
    try:
        given = pasted(text)
        if given.rows:
            named = st.checkbox("The first row names the columns", given.has_header, key=f"paste-header-{given.has_header}")
            given = pasted(text, named)
        heads = [dict(zip(given.rows[0], row)) for row in given.rows[1 : _SHOWN + 1]] if given.has_header else []
        mapping = columns.mapping_form(heads, "paste") if heads else ()
    except RetouchError as error:
        frame.problem(error, "paste")
        return
    if mapping is not None:
        mark = hashlib.sha256(f"{given.has_header} {text}".encode()).hexdigest()
        _read(session, Asked("a paste", mark, mapping), lambda _: read_pasted(given, mapping=dict(mapping) or None))


def _read(session: Session, asked: Asked, how: Callable[[Progress], Imported]) -> None:
    if not jobs.is_running(IMPORT) and jobs.settings_of(IMPORT) != asked:
        jobs.drop(IMPORT)
        jobs.begin(IMPORT, f"Reading {asked.origin}", how, asked)
    with st.spinner(f"Reading {asked.origin}"):  # a panel that polls would end in a rerun of the page, which closes the dialog
        jobs.wait(IMPORT)
    jobs.panel(IMPORT, lambda read: _imported(session, read, asked), settings=asked)


def _imported(session: Session, read: Imported, asked: Asked) -> None:
    rows = read.demonstrations
    st.markdown(f"**{count(len(rows), 'good row')}**, {_read_as(read.format)}: {counts(rows)}.")
    if read.problems:
        st.markdown(f"{count(len(read.problems), 'line')} left out or to be known of:")
        st.dataframe(
            [
                {"line": "all" if item.line is None else str(item.line), "what is wrong": item.what, "what to do": item.hint}
                for item in read.problems[:200]
            ],
            hide_index=True,
            height=min(200, 40 + 36 * len(read.problems)),
        )
    if not len(rows):
        st.caption("No row could be used; nothing can be kept.")
        return
    _preview([row.values() for row in rows.rows[:_SHOWN]])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", rows.name, key=f"import-name-{asked.mark[:12]}")
        if st.button("Open it", type="primary", key="import-open"):
            kept = session.demos.keep(read, asked.origin, name)
            if kept is not None:
                forget()
                _open(kept.id)
    st.caption("Nothing is kept until you open it.")


def _preview(rows: Sequence[dict[str, object]]) -> None:
    used = [name for name in rows[0] if name != "id" and any(row[name] for row in rows)]
    st.dataframe([{name: _cell(row[name]) for name in used} for row in rows], hide_index=True, height=38 + 35 * len(rows))


def _cell(value: object) -> str:
    return ", ".join(map(str, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else str(value or "")


def _read_as(layout: str) -> str:
    return "column by column" if layout == "retouch" else f"read as {plain(layout)}"


def _open(key: str) -> None:
    state().set_name = key
    part(Editor).restart()
    st.rerun()
