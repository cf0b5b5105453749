"""Inspect: a lens over several prompts of a set, each with its own good and bad answer: mean and spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.head_cells import head_grid
from pages._ui.inspect.lane import lane_choice
from pages._ui.inspect.lenses import entry_word
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base

if TYPE_CHECKING:
    from workbench.lenses.over_rows import OverRows
    from workbench.progress import Progress
    from workbench.session import Session

_WHAT = {
    "layers": "Logit lens by layer", "component": "Attribution by layer", "head": "Attribution by head",
    "looks": "Attention to the good answer", "lost": "Lost without the head",
}  # fmt: skip
_UNITS = {"layers": "log p of good less bad (nats)", "component": "logit of good less bad"}
# What a cell of a head is.
_CELLS = {
    "head": "what the head adds to the good answer's logit less the bad one's",
    "looks": "the share of its attention that goes from the last token to the good answer in the prompt",
    "lost": "how much of the good answer's logit less the bad one's is gone without the head (measured)",
}
SEVERAL: jobs.Slot[Over, OverRows] = jobs.Slot("several")


@dataclass(frozen=True)
class Over:
    """What is read over the rows of a set, in each lane, and over how many."""

    what: str
    set_id: str
    most: int
    lanes: Lanes


def several(session: Session, key: str, *kinds: str) -> None:
    """Draw it under a lens of one prompt. `kinds`: what the lens beside it shows, a choice where they are several."""
    with st.expander("Over several prompts: mean and spread", key=f"several-{key}"):
        from workbench.lenses.over_rows import LENS

        what = kinds[0]
        if len(kinds) > 1:
            what = st.segmented_control(
                "Mean of", kinds, format_func=_WHAT.__getitem__, default=what, key=f"several-what-{key}", required=True
            )
        if blocked(session, LENS[what]):
            return
        sets = {offer.id: offer.title for offer in session.demos.list()}
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = st.selectbox("Set", list(sets), format_func=sets.__getitem__, key=f"several-set-{key}", width=260)
            most = st.select_slider("Prompts", [4, 8, 16, 32, 64], 16, key=f"several-n-{key}", width=200)
            settings = Over(what, chosen, most, lanes_on())
            frame.act("Read them all", _read, settings, key=f"several-run-{key}", type="primary")
        named = ", where the prompt names the good one" if what == "looks" else ""
        n_heads = session.model.info.n_layers * session.model.info.n_heads
        runs = f" Every head is silenced in turn: {n_heads:,} runs a prompt." if what == "lost" else ""
        st.caption(f"Rows whose good and bad answers are one token each{named}; these are target and distractor of their own prompt.{runs}")
        kept = jobs.settings_of(SEVERAL)
        if kept is None or kept.what in kinds or jobs.is_running(SEVERAL):
            jobs.panel(SEVERAL, _draw, settings=settings)


def _read(settings: Over) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> OverRows:
        options: dict[str, Any] = {"what": settings.what, "most": settings.most, "stacks": stacks}
        return session.look("over_rows", session.demos(settings.set_id), **options, progress=progress)

    jobs.start(SEVERAL, f"{_WHAT[settings.what]}, over a set", work, settings)


def _draw(found: OverRows) -> None:
    from workbench.figures.attribution import component_word
    from workbench.figures.over_rows import mean_and_spread

    where = words.provenance(model=found.model, data=found.data, n=words.count(found.n, "prompt"))
    or_unnamed = ", or a good one that the prompt does not name," if found.what == "looks" else ""
    out = f" {words.count(found.left_out, 'row')} had answers of several tokens{or_unnamed} and were left out." if found.left_out else ""
    if found.what in _CELLS:
        _heads(found, where, out)
        return
    names = [entry_word(label) if found.what == "layers" else component_word(label) for label in found.labels]
    figure = mean_and_spread(found, names, f"{_WHAT[found.what]}: mean of {found.n} prompts", _UNITS[found.what])
    rows = [{**row, "what": name} for row, name in zip(found.rows(), names * len(found.lanes))]
    figure_panel(
        figure, rows, where, key=f"several-{found.what}", says=f"Whiskers: one standard deviation of the prompts.{out}",
        look_for="Where a point stands further from 0 than its whisker, the prompts agree.",
    )  # fmt: skip


def _heads(found: OverRows, where: str, out: str) -> None:
    lane = lane_choice(found.lanes, "several-lane")
    places = {name: j for j, name in enumerate(found.labels) if name.startswith("L")}
    n_heads = 1 + max(int(name.partition("H")[2]) for name in places)
    order = [places[f"L{i}H{j}"] for i in range(len(places) // n_heads) for j in range(n_heads)]
    means = [float(found.mean[lane, j]) for j in order]
    values = [means[i : i + n_heads] for i in range(0, len(means), n_heads)]
    st.caption(f"Cell: the mean of {found.n} prompts of {_CELLS[found.what]}.{out}")
    picked = head_grid(values, key="several-grid", scale=max(map(abs, means)) or 1.0, signed=found.what != "looks")
    if picked is not None:
        layer, head = picked
        j = places[f"L{layer}H{head}"]
        told = f"{words.number(float(found.mean[lane, j]))}, spread {words.number(float(found.spread[lane, j]))}"
        with st.container(border=True, key="drawer-several"):
            st.markdown(f"**Head {layer}.{head}**: mean {told}, n={found.n}.")
            scope.verbs(layer, head, key="several-scope")
    rows = sorted((row for row in found.rows() if row["what"].startswith("L")), key=lambda row: -abs(row["mean"]))
    table_panel([{**row, "what": row["what"][1:].replace("H", ".")} for row in rows], where, key="several-rows")
