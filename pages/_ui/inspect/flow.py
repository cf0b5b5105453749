"""Inspect: what the answer's stream is made of, layer by layer back to the tokens; a node's heads and MLP, and the way to the scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect.lane import lane_choice
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import grid
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.flow import Flow
    from workbench.progress import Progress
    from workbench.session import Session

FLOW: jobs.Slot[Traced, Flow] = jobs.Slot("flow")


@dataclass(frozen=True)
class Traced:
    """A prompt whose last token is traced back, in each lane."""

    prompt: Prompt
    lanes: Lanes


def flow(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Trace the last token's stream back; the threshold moves without another run."""
    settings = Traced(prompt, lanes_on())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        frame.act("Trace the flow", _run, settings, type="primary", key="flow-run")
        threshold = st.slider("Least share of an edge", 0.01, 0.2, 0.04, 0.01, key="flow-threshold", persist_state="session", width=260)
    jobs.panel(
        FLOW, lambda found: _draw(found, float(threshold)), settings=settings,
        nothing=lambda: frame.empty(
            "A graph will stand here: tokens across, layers upward, a line for each head that brings something from one token to another.",
            "Press *Trace the flow*.", key="flow",
        ),
    )  # fmt: skip


def _run(settings: Traced) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> Flow:
        return session.look("flow", settings.prompt, stacks=stacks, progress=progress)

    jobs.start(FLOW, "Tracing the flow", work, settings)


def _draw(found: Flow, threshold: float) -> None:
    from workbench.figures.flow import flow_graph

    lane = lane_choice(found.lanes, "flow-lane")
    edges, weights = found.kept(threshold, lane)
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, n="1 prompt", where=f"token {found.pos}")
    rows = [{name: value for name, value in row.items() if name != "lane"} for row in found.rows(threshold, lane)]
    best = found.heads(threshold, lane)
    told = ", ".join(f"{name} ({weight:.2f})" for name, weight in best[:4]) or "none"
    left, right = st.columns([3, 2], gap="large")
    with left:
        figure_panel(
            flow_graph(found, threshold, lane), rows, where, key="flow-graph", says=f"Heads that carry most: {told}.",
            look_for="Follow the solid lines down from the last token: each is a head that brought something from another token.",
        )  # fmt: skip
    with right:
        at = _grid(found, edges, weights)
        if at is None:
            st.caption("Pick a cell to see what comes into the stream there: its heads, its MLP, what stays.")
        else:
            _node(found, [row for row, edge in zip(rows, edges) if (edge.layer + 1, edge.pos) == at], at)
        if best:
            names = tuple(name for name, _ in best)
            st.button(f"Add the {words.count(len(names), 'head')} that carry most to scope", key="flow-scope", icon=":material/add:",
                      on_click=scope.add, args=names)  # fmt: skip


def _grid(found: Flow, edges: Any, weights: Any) -> tuple[int, int] | None:
    """Draw the weight of every node, the last layer on top; return the picked level and token."""
    levels = list(range(found.n_layers, -1, -1))
    coming: dict[tuple[int, int], list[str]] = {}
    for edge in edges:
        source = "" if edge.head < 0 else f" from {words.token(found.tokens[edge.source])}"
        coming.setdefault((edge.layer + 1, edge.pos), []).append(f"{edge.name}{source} {edge.share:.2f}")
    n = len(found.tokens)
    hover = [
        [f"weight {weights[i, j]:.2f}; " + ", ".join(coming.get((i, j), ["nothing flows here"])[:6]) for j in range(n)] for i in levels
    ]
    values = [[float(weights[i, j]) or None for j in range(n)] for i in levels]
    texts = [[f"{weights[i, j]:.2f}" if weights[i, j] else "·" for j in range(n)] for i in levels]
    names = ["embedding" if i == 0 else f"layer {i - 1}" for i in levels]
    picked = grid(names, list(found.tokens), values, key="flow-grid", texts=texts, hover=hover, corner="after", row_word="After")
    return None if picked is None else (levels[picked[0]], picked[1])


def _node(found: Flow, rows: list[dict[str, Any]], at: tuple[int, int]) -> None:
    level, pos = at
    with st.container(border=True, key="drawer-flow"):
        st.text(f"Into {'the embedding' if level == 0 else f'layer {level - 1}'}, token {pos} {words.token(found.tokens[pos])}")
        if not rows:
            st.caption("Nothing of this share comes in here.")
            return
        table_panel([{name: row[name] for name in ("by", "from", "share", "weight")} for row in rows],
                    words.provenance(model=found.model, n="1 prompt"), key="flow-into")  # fmt: skip
        carriers = list(dict.fromkeys(str(row["by"]) for row in rows if row["by"] != "stays"))
        chosen = st.selectbox("Head or MLP", carriers, key="flow-carrier", width=200) if carriers else None
        if chosen is not None:
            head = chosen.rpartition(".")[2] if chosen.startswith("head") else ""
            scope.verbs(level - 1, int(head) if head else None, key="flow-node", mlp=not head)
