"""Library: every run as it was, to open again, pin, note, search, and lay two beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import restoring as compared
from pages._ui.edit import restoring as fitted
from pages._ui.evaluate import restoring as measured
from pages._ui.kit import frame, words
from pages._ui.kit.figures import figure_panel
from workbench.errors import Obstructed, RetouchError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.session import Session
    from workbench.workspace.overlays import Overlay
    from workbench.workspace.runs import Run

_N = 200
# Where a run of a kind is opened; all others on Evaluate.
_PAGES = {"compare": ("compare", compared.restore), "fit": ("edit", fitted.restore)}


def panel(session: Session) -> None:
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
        _one(session, chosen[0])
    elif len(chosen) == 2:
        _two(chosen)


def _one(session: Session, run: Run) -> None:
    st.header(words.plain(run.title), anchor=False)
    frame.source(words.provenance(kind=run.kind, model=run.model, seed=run.seed, run=run.id), "run-one")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button("Open it again", type="primary", key="run-open", icon=":material/history:", help=_OPENS):
            open_run(session, run)
        label = "Unpin" if run.is_pinned else "Pin"
        pin = session.workspace.pin
        st.button(label, icon=":material/push_pin:", key="run-pin", on_click=pin, args=("run", run.id, not run.is_pinned))
        note = st.text_input("Note", run.note, key=f"run-note-{run.id}", width=420)
        frame.act("Keep note", session.workspace.note, "run", run.id, note, key="run-note-keep", disabled=note == run.note)
    with st.expander("Everything that it holds"):
        st.json({"inputs": run.inputs, "metrics": run.metrics, "outputs": run.outputs, "versions": run.versions}, expanded=1)


_OPENS = "Puts the controls of its page back as they were, and what it came to."


def open_run(session: Session, run: Run) -> None:
    """Go to the page of a run, with its controls and its result as they were; where that fails, say why."""
    try:
        page = reopened(session, run)
    except RetouchError as error:
        frame.problem(error, "run-open")
        return
    st.switch_page(page)


def reopened(session: Session, run: Run) -> str:
    """The page of a run, whose controls and result are put back as they were; call it before that page is drawn.

    Raises:
        Obstructed: the run is of another model, or has no page. Else as the page's `restore`.
    """
    page, restore = _PAGES.get(run.kind, ("evaluate", measured.restore))
    here = session.model.info.name
    if run.model not in (None, here):
        raise Obstructed(f"This run is of {run.model}; {here} is open.", "Open that model on the page Model, then this run again.")
    restore(session, run)
    return f"pages/{page}.py"


def _two(runs: Sequence[Run]) -> None:
    """The texts of two runs side by side where both have texts, and what differs."""
    from workbench.workspace.history import differences

    one, other = runs
    st.header("What differs", anchor=False)
    for i, run in enumerate((one, other)):
        st.html(frame.lane_chip(i + 1, f"{run.title}, {_when(run.created)}"))
    _overlaid(runs)
    found = differences(one, other)
    if not found:
        st.caption("Nothing: settings, versions and results are the same.")
        return
    rows = [{"what": row["what"], "A": _cell(row[one.id]), "B": _cell(row[other.id])} for row in found]
    st.dataframe(rows, hide_index=True, width="stretch", key="runs-differences")


def _overlaid(runs: Sequence[Run]) -> None:
    """What both runs drew, in one picture, each run in its colour."""
    from workbench.workspace.overlays import overlays

    found = {item.title: item for item in overlays(runs[0], runs[1])}
    if not found:
        return
    shown = found[st.selectbox("Picture of", list(found), key="runs-picture", width=360)]
    scores: list[dict[str, object]] = [
        {"run": "AB"[one.run], "lane": one.lane, "value": one.value, "95 % low": one.low, "95 % high": one.high, "n": one.n}
        for one in shown.points
    ]
    curves: list[dict[str, object]] = [
        {"run": "AB"[one.run], "what": one.name, "x": x, "y": y} for one in shown.traces for x, y in zip(one.x, one.y)
    ]
    told = words.provenance(model=" and ".join(dict.fromkeys(str(run.model) for run in runs)), runs=" and ".join(run.id for run in runs))
    look_for = "Bars that lie apart are runs that differ; those that overlap may differ by chance alone."
    figure_panel(_picture(shown), [*scores, *curves], told, key="runs-overlay", look_for=look_for if shown.points else "")


def _picture(shown: Overlay) -> go.Figure:
    from workbench.figures.basic import IntervalBar, Line, intervals, lines

    if shown.traces:
        parts = [Line(f"{'AB'[one.run]} {one.name}", one.x, one.y, one.run + 1) for one in shown.traces]
        return lines(shown.title, parts, shown.x_label, shown.y_label)
    bars = [
        IntervalBar(
            f"{'AB'[one.run]} {one.lane}", one.value, one.value if one.low is None else one.low,
            one.value if one.high is None else one.high, one.n, one.run + 1,
        )
        for one in shown.points
    ]  # fmt: skip
    return intervals(shown.title, bars, shown.x_label)


def _cell(value: object) -> str:
    return "–" if value is None else words.number(float(value)) if isinstance(value, float) else str(value)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%d %b %Y %H:%M")
