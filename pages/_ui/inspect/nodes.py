"""Inspect: every head and MLP in one table for a target: what it writes, says itself, is estimated and measured to give; whom it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.lane import lane_or_change
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import grid
from pages._ui.kit.figures import table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.nodes import NodeTable, Upstream
    from workbench.progress import Progress
    from workbench.session import Session

# Column → its words, and what it says.
COLUMNS = {
    "lost": ("Lost without it", "Measured: the logit difference less that of a run in which the node says nothing at any token."),
    "estimate": ("Estimate", "To first order, from one gradient, what is lost without the node."),
    "direct": ("Direct effect", "What the node writes to the last token says itself. A node that only helps others has none."),
    "norm": ("Write norm", "How long what the node writes to the last token is, whatever it says."),
}
MEASURED = (10, 30, 100, 1000)
N_HELPERS = 12
NODES: jobs.Slot[Noded, NodeTable] = jobs.Slot("nodes")
UPSTREAM: jobs.Slot[Traced, Upstream] = jobs.Slot("upstream")


@dataclass(frozen=True)
class Noded:
    """A prompt and its targets in each lane, and how many nodes are measured."""

    prompt: Prompt
    targets: tuple[str, ...]
    lanes: Lanes
    measure: int = 0


@dataclass(frozen=True)
class Traced:
    """A node of the untouched model, traced back on a prompt."""

    prompt: Prompt
    targets: tuple[str, ...]
    node: str


def nodes(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Estimate every node at once, and measure as many as are asked for."""
    if not targets:
        frame.empty("A cell for every head and MLP will stand here.", "Write a target above, and a distractor.", key="nodes-target")
        return
    settings = Noded(prompt, targets, lanes_on())
    total = session.model.info.n_layers * (session.model.info.n_heads + 1)
    counts = [n for n in MEASURED if n < total] + [total]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        frame.act("Estimate every node", _run, settings, key="nodes-estimate", help="Two runs and one gradient.")
        count = st.select_slider(
            "Measure the largest", counts, counts[min(1, len(counts) - 1)], key="nodes-count", persist_state="session", width=220,
            help="Those with the largest estimates. Each takes a run from its layer on.",
        )  # fmt: skip
        frame.act(f"Measure {count} of {total}", _run, replace(settings, measure=count), type="primary", key="nodes-run")
    kept = jobs.settings_of(NODES)
    jobs.panel(
        NODES, lambda found: _draw(session, found, prompt, targets),
        settings=settings if kept is None else replace(settings, measure=kept.measure),
        nothing=lambda: frame.empty(
            "A cell for every head and MLP will stand here: what it writes, what it says for the target, and what is lost without it.",
            "Press *Estimate every node*, or *Measure* for what is really lost.", key="nodes",
        ),
    )  # fmt: skip


def _run(settings: Noded) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> NodeTable:
        asked = (settings.prompt, *settings.targets[:2])
        return session.look("node_table", *asked, stacks=stacks, measure=settings.measure, progress=progress)

    jobs.start(NODES, "Measuring nodes" if settings.measure else "Estimating nodes", work, settings)


def _draw(session: Session, found: NodeTable, prompt: Prompt, targets: tuple[str, ...]) -> None:
    choice = lane_or_change(found.lanes, "nodes-lane")
    lane, found = choice.lane, choice.of(found, "norm", "direct", "estimate", "lost", "difference")
    known = [name for name in COLUMNS if (getattr(found, name)[lane] == getattr(found, name)[lane]).any()]
    shown = st.pills(
        "Colour by", known, format_func=lambda name: COLUMNS[name][0], default=known[0], key=f"nodes-column-{len(known)}", required=True
    )
    column = shown or known[0]
    st.caption(COLUMNS[column][1])
    left, right = st.columns(2, gap="large")
    with left:
        at = _grid(found, lane, column, session.model.info.n_heads)
    at = found.order(lane)[0] if at is None else at
    with right, st.container(border=True, key="drawer-nodes"):
        _node(session, found, lane, at, prompt, targets)
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, n="1 prompt", target=f"for {_asked(found)}")
    rows = [{name: value for name, value in row.items() if name != "lane"} for row in found.rows(lane)]
    flags = sum(bool(row["flag"]) for row in rows)
    if (n := sum(row["lost"] is not None for row in rows)) > 0:
        st.markdown(
            f"Of {words.count(n, 'measured node')}, the estimate is off for {flags}: more than twice or less than half, or another sign."
        )
    names = {name: st.column_config.NumberColumn(told, format="%.3f", help=says) for name, (told, says) in COLUMNS.items()}
    table_panel(rows, where, key="nodes-rows", columns=names)


def _asked(found: NodeTable) -> str:
    target = words.token(found.target)
    return target if found.distractor is None else f"{target} rather than {words.token(found.distractor)}"


def _grid(found: NodeTable, lane: int, column: str, n_heads: int) -> int | None:
    """Draw layers × heads and MLP; return the picked node's place."""
    width, values = n_heads + 1, getattr(found, column)[lane]
    table = [[None if x != x else float(x) for x in values[i : i + width]] for i in range(0, len(values), width)]
    hover = [[_told(found, lane, i + j) for j in range(width)] for i in range(0, len(values), width)]
    top = max((abs(x) for line in table for x in line if x is not None), default=1.0) or 1.0
    texts = [["·" if x is None else words.number(x) for x in line] for line in table]
    layers, columns = [f"layer {i}" for i in range(len(table))], [*map(str, range(n_heads)), "MLP"]
    signed = column != "norm" or any(x < 0 for line in table for x in line if x is not None)
    picked = grid(layers, columns, table, key="nodes-grid", scale=top, signed=signed, texts=texts, hover=hover, corner="head",
                  column_word="Head or MLP")  # fmt: skip
    return None if picked is None else picked[0] * width + picked[1]


def _told(found: NodeTable, lane: int, at: int) -> str:
    """A node's numbers in a few words, for the pointer and for screen readers."""
    parts = [f"{told.lower()} {words.number(float(getattr(found, name)[lane, at]))}" for name, (told, _) in COLUMNS.items()]
    flag = found.flag(at, lane)
    return ", ".join([*parts, *([flag] if flag else [])])


def _node(session: Session, found: NodeTable, lane: int, at: int, prompt: Prompt, targets: tuple[str, ...]) -> None:
    name = found.nodes[at]
    title = name if name.startswith("MLP") else f"Head {name}"
    st.markdown(f"**{title}**: {_told(found, lane, at)}.")
    layer, _, head = name.removeprefix("MLP ").partition(".")
    scope.verbs(int(layer), int(head) if head else None, key="nodes-scope", mlp=not head)
    if blocked(session, "upstream"):
        return
    settings = Traced(prompt, targets, name)
    frame.act("Trace it upstream", _trace, settings, key="nodes-trace",
              help="Which earlier nodes wrote what it reads.")  # fmt: skip
    if jobs.settings_of(UPSTREAM) == settings or jobs.is_running(UPSTREAM):
        jobs.panel(UPSTREAM, _upstream)


def _trace(settings: Traced) -> None:
    def work(session: Session, progress: Progress) -> Upstream:
        return session.look("upstream", settings.prompt, *settings.targets[:2], node=settings.node, progress=progress)

    jobs.start(UPSTREAM, "Tracing a node upstream", work, settings)


def _upstream(found: Upstream) -> None:
    rows: list[dict[str, Any]] = found.rows()[:N_HELPERS]
    st.markdown(f"What **{words.plain(found.node)}** reads for the target, by who wrote it:")
    where = words.provenance(model=found.model, lane="the untouched model", n="1 prompt", how="estimated from a gradient")
    table_panel(rows, where, key="nodes-upstream")
    if found.shared_by > 1 and not found.node.startswith("MLP"):
        st.caption(f"Keys and values are shared by {found.shared_by} heads, and count for all of them.")
    if names := _scoped(rows):
        told = words.count(len(names), "head or MLP", "heads and MLPs")
        st.button(f"Add these {told} to scope", key="nodes-upstream-scope", icon=":material/add:",
                  on_click=scope.add, args=names)  # fmt: skip


def _scoped(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The heads and MLPs among writers, each once."""
    return tuple(dict.fromkeys(str(row["from"]) for row in rows if row["from"] != "embedding"))
