"""Inspect: patching between a clean and a corrupted prompt, and the circuit that carries the difference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.head_cells import head_grid
from pages._ui.inspect.lane import Choice, lane_or_change
from pages._ui.inspect.pair import corrupted
from pages._ui.inspect.patch_lens import patch_lens
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import grid
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from pages._ui.kit.state import state
from workbench.conversations import Prompt
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.lenses.circuits import Circuit
    from workbench.lenses.patching import PatchingEffects
    from workbench.progress import Progress
    from workbench.session import Session

_PLACES = {"resid_pre": "Residual stream", "attn_out": "Attention", "mlp_out": "MLP", "heads": "Heads"}
# More edges than these are a tangle; the table has them all.
_DRAWN = 40
PATCHING: jobs.Slot[Patched, PatchingEffects] = jobs.Slot("patching")
CIRCUIT: jobs.Slot[Traced, Circuit] = jobs.Slot("circuit")


@dataclass(frozen=True)
class Patched:
    """A clean and a corrupted prompt with target and distractor, in each lane; whether effects are estimated or measured."""

    prompt: Prompt
    corrupt: Prompt
    targets: tuple[str, ...]
    lanes: Lanes
    is_estimate: bool = False


@dataclass(frozen=True)
class Traced:
    """As `Patched`, in the untouched model: how many of the strongest edges are kept."""

    prompt: Prompt
    corrupt: Prompt
    targets: tuple[str, ...]
    n_edges: int


def patching(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Put activations of the clean run into the corrupted run: every place by itself, or one cell into any other."""
    views = {"Every place": (_everywhere, "activation_patching"), "Cell by cell": (patch_lens, "patch_lens")}
    view = st.segmented_control(
        "View", list(views), default="Every place", key="patching-view", required=True, label_visibility="collapsed"
    )
    draw, lens = views[view or "Every place"]
    if not blocked(session, lens):
        draw(session, prompt, targets)


def _everywhere(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    corrupt = corrupted(session, prompt, targets)
    if corrupt is None:
        return
    settings = Patched(prompt, corrupt, targets, lanes_on())
    with st.container(horizontal=True):
        frame.act("Estimate", _run, replace(settings, is_estimate=True), key="patching-estimate", help="One gradient, to first order.")
        frame.act("Measure", _run, settings, type="primary", key="patching-run", help="A run a cell, from its layer on: exact, slower.")
    _cost(session, settings)
    kept = jobs.settings_of(PATCHING)
    jobs.panel(
        PATCHING, _draw, settings=replace(settings, is_estimate=kept is not None and kept.is_estimate),
        nothing=lambda: frame.empty(
            "Maps will stand here, layers down and tokens across: what share of the clean answer each place brings back.",
            "Press *Estimate*, or *Measure* for the exact effects.", key="patching",
        ),
    )  # fmt: skip


def _cost(session: Session, settings: Patched) -> None:
    """Say before the click how much is run."""
    from workbench.lenses.patching import runs_of

    try:
        n = runs_of(session.model, settings.prompt, settings.corrupt) * len(with_base(settings.lanes))
    except RetouchError as error:
        st.caption(f":orange[{words.plain(f'{error} {error.hint}')}]")
        return
    whole = words.count(max(1, round(n / 2)), "read")
    st.caption(
        f"To measure takes {n:,} runs, each from its layer on: as much as about {whole} of the whole prompt. An estimate takes three."
    )


def _run(settings: Patched) -> None:
    stacks = with_base(settings.lanes)
    lens = "attribution_patching" if settings.is_estimate else "activation_patching"

    def work(session: Session, progress: Progress) -> PatchingEffects:
        return session.look(lens, settings.prompt, settings.corrupt, *settings.targets, stacks=stacks, progress=progress)

    jobs.start(PATCHING, "Estimating" if settings.is_estimate else "Patching", work, settings)


def _draw(found: PatchingEffects) -> None:
    shown = lane_or_change(found.lanes, "patching-lane")
    lane, found = shown.lane, shown.of(found, "streams", "heads")
    known = found.streams[lane] == found.streams[lane]
    places = [name for name, line in zip(_PLACES, known) if line.any()] + ["heads"]
    place = st.segmented_control(
        "Place", places, format_func=_PLACES.__getitem__, default=places[0], key=f"patching-place-{len(places)}", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    how = "estimated from a gradient" if found.is_estimate else "measured"
    of = "more than in the base; blue is less" if shown.is_change else "0 is the corrupted run, 1 the clean one; blue is further away"
    st.caption(f"Share of the effect, {how}: {of}.")
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, n="1 pair of prompts", how=how)
    if place == "heads":
        _heads(found, shown, where)
    else:
        _streams(found, shown, list(_PLACES).index(place or places[0]), where)
    st.caption(f"Logit difference: clean {words.number(float(found.clean[lane]))}, corrupted {words.number(float(found.corrupt[lane]))}.")


def _share(x: float, shown: Choice) -> str:
    return f"{x:.0%}{' more' if shown.is_change else ''}"


def _streams(found: PatchingEffects, shown: Choice, kind: int, where: str) -> None:
    from workbench.figures.patching import limit_of, patching_streams

    lane = shown.lane
    z = found.streams[lane, kind]
    values = [[float(x) for x in line] for line in z]
    names = [a if a == b else f"{a} → {b}" for b, a in zip(found.clean_tokens, found.corrupt_tokens)]
    layers, texts = [f"layer {i}" for i in range(len(values))], [[f"{x:z.2f}" for x in line] for line in values]
    picked = grid(layers, names, values, key=f"patching-grid-{kind}", scale=limit_of(z), signed=True, texts=texts, corner="patched at")
    if picked is not None:
        layer, pos = picked
        state().layer = layer
        with st.container(border=True, key="drawer-patching"):
            share = _share(values[layer][pos], shown)
            st.markdown(f"**Layer {layer}, token {pos}**: patching here alone brings {share} of the effect back.")
            scope.verbs(layer, key="patching-scope")
    with st.expander("All places in one picture, and the table"):
        rows = [
            {"place": place, "layer": i, "token": f"{p} {words.token(names[p])}", "share": float(found.streams[lane, k, i, p])}
            for k, place in enumerate(list(_PLACES)[:3])
            for i in range(len(values))
            for p in range(len(names))
        ]
        figure_panel(
            patching_streams(found, lane), rows, where, key="patching-streams",
            look_for="Follow the residual stream upwards: where the full cells change their column, attention has moved the information.",
        )  # fmt: skip


def _heads(found: PatchingEffects, shown: Choice, where: str) -> None:
    from workbench.figures.patching import limit_of, patching_heads

    lane = shown.lane
    values = [[float(x) for x in line] for line in found.heads[lane]]
    picked = head_grid(values, key="patching-heads-grid", scale=limit_of(found.heads[lane]), signed=True)
    if picked is not None:
        with st.container(border=True, key="drawer-patching-head"):
            st.markdown(f"**Head {picked[0]}.{picked[1]}** alone brings {_share(values[picked[0]][picked[1]], shown)} of the effect back.")
            scope.verbs(*picked, key="patching-head")
    with st.expander("Picture and table"):
        rows = [{"head": f"{i}.{j}", "share": x} for i, line in enumerate(values) for j, x in enumerate(line)]
        figure_panel(patching_heads(found, lane), rows, where, key="patching-heads")


def circuit(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Which components speak to which, in the untouched model."""
    corrupt = corrupted(session, prompt, targets)
    if corrupt is None:
        return
    from workbench.lenses.circuits import N_GRADIENTS, forwards_of

    n = st.select_slider("Edges", [5, 10, 20, 30, 50, 100, 200, 600, 2000], 20, key="circuit-n", persist_state="session", width=320)
    settings = Traced(prompt, corrupt, targets, n)
    frame.act("Trace the circuit", _trace, settings, type="primary", key="circuit-run")
    runs = words.count(forwards_of(session.model, n), "run")
    st.caption(
        f"It takes {runs} of the whole prompt, {N_GRADIENTS} of them back and forth: {n} edges, fewer and more, and random ones beside."
    )
    jobs.panel(
        CIRCUIT, _circuit, settings=settings,
        nothing=lambda: frame.empty(
            "The strongest connections between heads and MLPs will stand here, and how much of the answer they bring back alone.",
            "Press *Trace the circuit*.", key="circuit",
        ),
    )  # fmt: skip


def _trace(settings: Traced) -> None:
    def work(session: Session, progress: Progress) -> Circuit:
        asked = (settings.prompt, settings.corrupt, *settings.targets)
        return session.look("circuit", *asked, n_edges=settings.n_edges, progress=progress)

    jobs.start(CIRCUIT, "Tracing", work, settings)


def _circuit(found: Circuit) -> None:
    from workbench.figures.circuits import circuit_curve, circuit_graph

    where = words.provenance(model=found.model, lane="the untouched model", n="1 pair of prompts")
    chance = [line[found.sizes.index(len(found.edges))] for line in found.random]
    says = f"{len(found.edges)} of {found.n_edges} edges alone bring {found.recovered:.0%} of the effect back (measured); "
    says += f"as many that hang together at random bring at most {max(chance):.0%}."
    more = next(((size, at) for size, at in zip(found.sizes, found.curve) if size > len(found.edges) and at > found.recovered), None)
    if found.recovered < 0.5 and more is not None:
        says += f" The strongest {more[0]} bring {more[1]:.0%}: with more edges above, a larger circuit."
    look = "Width is the size of an edge, estimated from gradients. Follow the thick ones down from the logits."
    figure_panel(circuit_graph(found, _DRAWN), found.rows(), where, key="circuit", says=says, look_for=look)
    if heads := found.strongest_heads():
        label = f"Add its {words.count(len(heads), 'head')} to scope" if len(heads) == len(found.heads) else (
            f"Add the {len(heads)} of its {len(found.heads)} heads that carry most to scope"
        )  # fmt: skip
        with st.container(horizontal=True):
            st.button(label, key="circuit-scope", icon=":material/add:", on_click=scope.add, args=heads)
            if mlps := found.mlps:
                st.button(f"Add its {words.count(len(mlps), 'MLP')} too", key="circuit-mlps", icon=":material/add:", on_click=scope.add,
                          args=mlps)  # fmt: skip
    rows = [{"edges": size, "strongest": at} | {f"random {i + 1}": line[j] for i, line in enumerate(found.random)}
            for j, (size, at) in enumerate(zip(found.sizes, found.curve))]  # fmt: skip
    figure_panel(
        circuit_curve(found), rows, words.provenance(model=found.model, n="1 pair of prompts", seed=found.seed), key="circuit-curve",
        look_for="The line that rises early is a small circuit. The dotted ones are as many edges that hang together at random.",
    )  # fmt: skip
    table_panel(found.rows(), where, key="circuit-edges")
