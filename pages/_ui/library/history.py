"""Library: every run as it was, to open again, pin, note, search, and lay two beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, scope, words
from pages._ui.kit.state import state
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.workspace.runs import Run

Restore = Callable[["Session", "Run"], None]
_N = 200
# Where a run of a kind is looked at.
_PAGES = {"compare": "compare", "fit": "edit", "protocol": "evaluate"}


def panel(session: Session, restore: Restore) -> None:
    """The runs, newest first, pinned ones before; one ticked can be opened and noted, two are laid beside each other."""
    from workbench.workspace.history import found_in

    every = session.workspace.runs.list(limit=_N)
    if not every:
        frame.empty("Every fit, comparison and evaluation is recorded here, with what it came from.", key="runs")
        return
    sought = st.text_input("Search", key="runs-search", placeholder="a prompt, an edit, a set, a note", width=360)
    runs = found_in(every, sought)
    ticked = st.dataframe(
        [
            {
                "pinned": "📌" if run.is_pinned else "", "when": _when(run.created), "kind": run.kind, "what": run.title, "note": run.note,
                "model": run.model, "seed": run.seed, "id": run.id,
            }
            for run in runs
        ],
        hide_index=True, width="stretch", key="runs-table", on_select="rerun", selection_mode="multi-row",
    ).selection["rows"]  # fmt: skip
    st.caption(f"{words.count(len(runs), 'run')}. Tick one to open it again, two to lay them beside each other.")
    chosen = [runs[i] for i in ticked if i < len(runs)][:2]
    if len(chosen) == 1:
        _one(session, chosen[0], restore)
    elif len(chosen) == 2:
        _two(chosen)


def _one(session: Session, run: Run, restore: Restore) -> None:
    st.header(words.plain(run.title), anchor=False)
    frame.source(words.provenance(kind=run.kind, model=run.model, seed=run.seed, run=run.id), "run-one")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button("Open it again", type="primary", key="run-open", icon=":material/history:", help=_OPENS):
            _open(session, run, restore)
        label = "Unpin" if run.is_pinned else "Pin"
        pin = session.workspace.pin
        st.button(label, icon=":material/push_pin:", key="run-pin", on_click=pin, args=("run", run.id, not run.is_pinned))
        note = st.text_input("Note", run.note, key=f"run-note-{run.id}", width=420)
        frame.act("Keep note", session.workspace.note, "run", run.id, note, key="run-note-keep", disabled=note == run.note)
    with st.expander("Everything that it holds"):
        st.json({"inputs": run.inputs, "metrics": run.metrics, "outputs": run.outputs, "versions": run.versions}, expanded=1)


_OPENS = "Puts the controls of its page back as they were; a comparison is run again, and gives the same texts."


def _open(session: Session, run: Run, restore: Restore) -> None:
    """Go to the page of a run with its controls as they were."""
    try:
        if run.kind == "compare":
            restore(session, run)
        elif run.kind == "fit":
            state().set_name = str(run.inputs.get("demonstrations", ""))
            scope.hand_knobs(str(run.inputs["method"]), dict(run.inputs["config"]), f"run {run.id}", said="all its knobs")
            state().edit = str(run.outputs.get("edit", ""))
        else:
            _on_evaluate(run)
    except RetouchError as error:
        frame.problem(error, "run-open")
        return
    st.switch_page(f"pages/{_PAGES.get(run.kind, 'evaluate')}.py")


def _on_evaluate(run: Run) -> None:
    """The set and the lanes of a measurement."""
    state().set_name = str(run.inputs.get("demonstrations", "") or state().set_name)
    for lane in run.inputs.get("lanes", ()):
        for edit in (item for item in lane if "edit" in item):
            state().turn_on(str(edit["edit"]), float(edit["dose"]))


def _two(runs: Sequence[Run]) -> None:
    """The texts of two runs side by side where both have texts, and what differs."""
    from workbench.workspace.history import differences

    one, other = runs
    st.header("What differs", anchor=False)
    for i, run in enumerate((one, other)):
        st.html(frame.lane_chip(i + 1, f"{run.title}, {_when(run.created)}"))
    found = differences(one, other)
    if not found:
        st.caption("Nothing: settings, versions and results are the same.")
        return
    rows = [{"what": row["what"], "A": _cell(row[one.id]), "B": _cell(row[other.id])} for row in found]
    st.dataframe(rows, hide_index=True, width="stretch", key="runs-differences")


def _cell(value: object) -> str:
    return "–" if value is None else words.number(float(value)) if isinstance(value, float) else str(value)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%d %b %Y %H:%M")
