"""Inspect: two runs as two grids; a cell of one put into a cell of the other, and what that run then holds as a third."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect import cells
from pages._ui.inspect.pair import second
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import grid
from pages._ui.kit.state import part, state
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.patch_lens import PatchLens, StreamReadout
    from workbench.progress import Progress
    from workbench.session import Session

_PLACES = {"resid": "Residual stream", "attn_out": "Attention", "mlp_out": "MLP", "head": "One head"}
_WAYS = {"denoise": "Clean into corrupted", "noise": "Corrupted into clean"}
Place = tuple[int, int]
RUNS: jobs.Slot[Pair, tuple[StreamReadout, StreamReadout]] = jobs.Slot("patch-runs")
PATCH: jobs.Slot[Put, PatchLens] = jobs.Slot("patch-lens")


@dataclass(frozen=True)
class Pair:
    """The run that is taken from, and the run that it is put into."""

    source: Prompt
    target: Prompt


@dataclass(frozen=True)
class Put:
    """A cell (layer, token) of the source at a cell of the target, in the stream or in what a part of the block gives."""

    pair: Pair
    place: str
    head: int | None
    source: Place
    target: Place
    targets: tuple[str, ...]


@dataclass
class Begun:
    """The patch that was asked for last: one that failed or was cancelled is not begun again by itself."""

    last: Put | None = None


def patch_lens(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Pick a cell of the source, then one of the target: the patch runs at once."""
    other = second(session, prompt)
    if other is None:
        frame.empty("Both runs will stand here as grids.", "Write a corrupted prompt that differs, of any length.", key="patch-lens-need")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.segmented_control(
            "Direction", list(_WAYS), format_func=_WAYS.__getitem__, default="denoise", key="patch-way", required=True
        )
        place, head = _place(session)
        pair = Pair(prompt, other) if way != "noise" else Pair(other, prompt)
        frame.act("Read both runs", _read, pair, type="primary", key="patch-read")

    def draw(runs: tuple[StreamReadout, StreamReadout]) -> None:
        read = jobs.settings_of(RUNS)
        if read is not None:
            _both(runs, read, place, head, targets)

    jobs.panel(
        RUNS, draw, settings=pair,
        nothing=lambda: frame.empty(
            "Two grids will stand here, a row a layer and a column a token. Pick a cell of the left one and a cell of the right one.",
            "Press *Read both runs*.", key="patch-lens",
        ),
    )  # fmt: skip


def _place(session: Session) -> tuple[str, int | None]:
    known = [name for name in _PLACES if name == "resid" or session.model.layers_of("head_z" if name == "head" else name)]
    place = st.selectbox("What is put there", known, format_func=_PLACES.__getitem__, key="patch-place", width=200)
    if place != "head":
        return place, None
    head = st.selectbox("Head", range(session.model.info.n_heads), key="patch-head", width=100)
    return place, head


def _read(pair: Pair) -> None:
    def work(session: Session, progress: Progress) -> tuple[StreamReadout, StreamReadout]:
        source = session.look("stream_readout", pair.source, progress=progress.part(0.0, 0.5))
        return source, session.look("stream_readout", pair.target, progress=progress.part(0.5, 1.0))

    jobs.start(RUNS, "Reading both runs", work, pair)


def _both(runs: tuple[StreamReadout, StreamReadout], pair: Pair, place: str, head: int | None, targets: tuple[str, ...]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Source**: what is taken")
        taken = _grid(runs[0], "patch-source", place)
    with right:
        st.markdown("**Target**: where it is put")
        at = _grid(runs[1], "patch-target", place)
    if taken is None or at is None:
        st.caption("Pick a cell of the source and a cell of the target: the patch then runs at once.")
        return
    settings = Put(pair, place, head, taken, at, targets if len(targets) == 2 else ())
    if part(Begun).last != settings:
        part(Begun).last = settings
        _patch(settings)
    jobs.panel(PATCH, lambda found: _patched(found, runs[1]), settings=settings)


def _grid(run: StreamReadout, key: str, place: str) -> Place | None:
    """Draw a run, the last layer on top; return the picked layer and token."""
    layers = _layers(run, place)
    texts = [[str(x[0]) for x in run.texts[layer + 1]] for layer in layers]
    values = [[float(x[0]) for x in run.probabilities[layer + 1]] for layer in layers]
    names, tokens = [_name(layer) for layer in layers], list(run.tokens)
    picked = grid(names, tokens, values, key=key, texts=texts, corner="after", row_word="After", column_word="Token")
    return None if picked is None else (layers[picked[0]], picked[1])


def _layers(run: StreamReadout, place: str) -> list[int]:
    """Layers from the last down; only the stream has a cell before the first block."""
    return list(range(len(run.texts) - 2, -2 if place == "resid" else -1, -1))


def _name(layer: int) -> str:
    return "embedding" if layer < 0 else f"layer {layer}"


def _patch(settings: Put) -> None:
    def work(session: Session, progress: Progress) -> PatchLens:
        pair, options = settings.pair, dict[str, Any](place=settings.place, head=settings.head)
        options |= dict(zip(("word", "distractor"), settings.targets))
        found = session.look("patch_lens", pair.source, pair.target, *settings.source, *settings.target, **options, progress=progress)
        session.shelf.draft(found.draft.edit)
        return found

    jobs.start(PATCH, "Patching one cell", work, settings)


def _patched(found: PatchLens, target: StreamReadout) -> None:
    layer, pos = found.target_cell
    what = _PLACES[found.place].lower() if found.head is None else f"head {found.head}"
    left, right = st.columns(2, gap="large")
    with left:
        taken = f"{_name(found.source_cell[0])}, token {found.source_cell[1]}"
        st.markdown(f"**Patched**: the {what} of {taken} of the source, put into {_name(layer)}, token {pos}")
        layers = _layers(target, "resid")
        inside = [[bool(x) for x in found.cone[one + 1]] for one in layers]
        moved = [[float(x) for x in found.moved[one + 1]] for one in layers]
        texts = [[str((found.readout if kept else target).texts[one + 1, j, 0]) for j, kept in enumerate(line)]
                 for one, line in zip(layers, inside)]  # fmt: skip
        hover = [[f"moved by {x:.0%}" if kept else "cannot move" for x, kept in zip(*lines)] for lines in zip(moved, inside)]
        grid(
            [_name(one) for one in layers], list(target.tokens), moved, key="patch-grid", texts=texts, hover=hover,
            faint=[[not x for x in line] for line in inside], start=max(0, pos - 2), corner="after", row_word="After", column_word="Token",
        )  # fmt: skip
        st.caption("Colour: how far the stream moved, as a share of its norm. Faint cells cannot move: no attention reaches them.")
    with right:
        cells.said(found.draft, words.plain(found.says))
        if layer >= 0:
            state().layer = layer
            scope.verbs(layer, found.head, key="patch-scope")
        st.caption("The edit is this patch: what it adds behind that layer at that token, counted from the prompt's end.")
