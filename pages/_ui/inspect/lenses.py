"""The lenses of the Inspect page: a function each that draws its controls, starts its job, and draws its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pages._ui.inspect import cells, jacobian, looks
from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.lane import Choice, lane_choice, lane_or_change
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import MAX_COLUMNS, grid
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.glossary import tip
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from pages._ui.kit.state import state
from workbench.conversations import Prompt
from workbench.figures.basic import bars

if TYPE_CHECKING:
    from workbench.lenses.attention import AttentionPatterns
    from workbench.lenses.logit_lens import LogitLens
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.shapes import Float

_BY = {"logit_lens": "Logit lens", "jacobian_lens": "Jacobian lens"}
_CELL = ("likeliest next token", "the token that what the layer holds comes to most, here or later in the text")
LOGIT_LENS: jobs.Slot[Read, LogitLens] = jobs.Slot("logit_lens")
ATTENTION: jobs.Slot[Read, AttentionPatterns] = jobs.Slot("attention")


@dataclass(frozen=True)
class Read:
    """A prompt read in each lane, perhaps with targets in mind."""

    prompt: Prompt
    lanes: Lanes
    targets: tuple[str, ...] = ()
    window: tuple[int, int] | None = None
    halves: bool = False
    lens: str = "logit_lens"
    fitted_on: str = ""


def logit_lens(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """What the model would say if it stopped after each layer, or what the layers behind make of what each holds."""
    lens = st.segmented_control(
        "Read by",
        list(_BY),
        format_func=_BY.__getitem__,
        default="logit_lens",
        key="lens-by",
        required=True,
        help=tip("logit lens Jacobian lens"),
    )
    lens = lens or "logit_lens"
    fit = None
    if lens == "jacobian_lens" and (blocked(session, lens) or (fit := jacobian.fitted(session)) is None):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        window, halves = _part(session, prompt), False
        if fit is None:
            halves = st.toggle("Between attention and MLP too", key="lens-halves", persist_state="session", help="Costs as much again.")
        settings = Read(prompt, lanes_on(), targets, window, halves, lens, "" if fit is None else fit.told)
        frame.act("Read every layer", _read, settings, type="primary", key="lens-run")
    jobs.panel(
        LOGIT_LENS, _lens, settings=settings,
        nothing=lambda: frame.empty("A grid will stand here: a row a layer, a column a token, in each cell the likeliest next token.",
                                    "Press *Read every layer*.", key="lens"),
    )  # fmt: skip


def _part(session: Session, prompt: Prompt) -> tuple[int, int] | None:
    """Which tokens of a long prompt are read: its last ones at first. None: all of them."""
    n = session.n_tokens(prompt)
    if n <= MAX_COLUMNS:
        return None
    starts = [*range(0, n - MAX_COLUMNS, MAX_COLUMNS), n - MAX_COLUMNS]
    first = st.select_slider(
        "Tokens", starts, starts[-1], format_func=lambda i: f"{i} to {i + MAX_COLUMNS - 1} of {n}", key=f"lens-part-{n}", width=280,
        help=f"Each layer and token costs as much as an answer: of a long prompt {MAX_COLUMNS} tokens are read at a time.",
    )  # fmt: skip
    return first, first + MAX_COLUMNS


def _read(settings: Read) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> LogitLens:
        return session.look(settings.lens, settings.prompt, targets=settings.targets, **_shown(settings), stacks=stacks, progress=progress)

    jobs.start(LOGIT_LENS, _BY[settings.lens], work, settings)


def _shown(settings: Read) -> dict[str, Any]:
    """What a lens shows of a prompt, as its arguments; halves of layers only the logit lens has."""
    return {"window": settings.window} | ({"halves": settings.halves} if settings.lens == "logit_lens" else {})


def _lens(found: LogitLens) -> None:
    shown = lane_or_change(found.lanes, "lens-lane")
    kept = list(reversed(range(len(found.entries))))
    names = [entry_word(found.entries[i]) for i in kept]
    tops = found.top_texts[shown.lane][:, :, 0]
    shares, colour = _colours(found, shown)
    scale = max(1e-9, float(np.abs(shares).max())) if shown.is_change else None
    st.caption(f"Cell: {_CELL[bool(found.fitted_on)]}. Colour: {colour}. The top row is the model's own answer.")
    left, right = st.columns(2, gap="large")
    with left:
        picked = grid(
            names, list(found.tokens), [[float(x) for x in shares[i]] for i in kept], key="lens-grid",
            texts=[[str(x) for x in tops[i]] for i in kept], start=len(found.tokens) - 1, offset=found.start, corner="after",
            row_word="After", column_word="Token", signed=shown.is_change, scale=scale,
        )  # fmt: skip
    with right:
        if picked is None:
            st.caption("Pick a cell to see its top five, how the target rises through the layers, and to make an edit there.")
        else:
            _cell(found, kept[picked[0]], picked[1])


def _colours(found: LogitLens, shown: Choice) -> tuple[Float[np.ndarray, "entry pos"], str]:
    """A number for each cell of the grid, and what it is: of a difference, what the lane makes of the target more than the base."""
    top = found.top_probabilities[shown.lane][:, :, 0]
    if not shown.is_change:
        return top, "its probability"
    if not found.targets:
        return top - found.top_probabilities[0][:, :, 0], "its probability less that of the base's likeliest token"
    more = found.target_log_probs[shown.lane, :, :, 0] - found.target_log_probs[0, :, :, 0]
    return more, f"log p of {words.plain(words.token(found.targets[0]))} less that in the base, nats; vermilion is more"


def _cell(found: LogitLens, entry: int, pos: int) -> None:
    read = jobs.settings_of(LOGIT_LENS)
    layer = _layer(found.entries[entry], 1 + max(int(n[: n.index("_")]) for n in found.entries if n[0].isdigit()))
    with st.container(border=True, key="drawer-lens"):
        with st.container(horizontal=True):
            st.markdown(f"**{entry_word(found.entries[entry])}**, token {found.start + pos}", width="content")
            st.text(words.token(found.tokens[pos]), width="content")
        if read is not None:
            at = (read.prompt, -1 if layer is None else layer, found.start + pos, read.targets, (read.lens, _shown(read)))
            cells.verbs(*at, lambda lens, lanes: jobs.put(LOGIT_LENS, lens, replace(read, lanes=lanes)))
        columns = st.columns(min(3, len(found.lanes)))
        top = 1.05 * float(found.top_probabilities[:, entry, pos].max())
        for i, (lane, column) in enumerate(zip(found.lanes[:3], columns)):
            with column:
                tops = [words.token(str(text)) for text in found.top_texts[i, entry, pos]]
                shares = [float(x) for x in found.top_probabilities[i, entry, pos]]
                figure = bars(f"{lane.label}: top {len(tops)}", tops, shares, "probability", lane=i, top=top)
                rows = [{"token": a, "probability": b} for a, b in zip(tops, shares)]
                figure_panel(
                    figure, rows, words.provenance(model=found.model, lane=lane.label, fitted=found.fitted_on), key=f"lens-top-{i}"
                )
                entropy, kl = (words.number(float(x[i, entry, pos])) for x in (found.entropy, found.kl))
                st.caption(f"Entropy {entropy} nats, KL to the last layer {kl} nats{_ranked(found, i, entry, pos)}")
        if found.targets:
            _targets(found, pos)
        if layer is not None:
            state().layer = layer
            scope.verbs(layer, key="lens-scope")


def _ranked(found: LogitLens, lane: int, entry: int, pos: int) -> str:
    """Where the targets stand among all tokens, counted from 1."""
    told = [f"{words.plain(words.token(name))} {found.target_ranks[lane, entry, pos, t] + 1:,}" for t, name in enumerate(found.targets)]
    return f". Rank of {', of '.join(told)}" if told else ""


def _targets(found: LogitLens, pos: int) -> None:
    from workbench.figures.logit_lens import target_path

    kept = {i: entry_word(name) for i, name in enumerate(found.entries) if not name.endswith("mid")}
    rows = [
        {
            "lane": lane.label,
            "target": target,
            "after": name,
            "log p (nats)": float(found.target_log_probs[i, e, pos, t]),
            "rank": int(found.target_ranks[i, e, pos, t]) + 1,
        }
        for i, lane in enumerate(found.lanes)
        for t, target in enumerate(found.targets)
        for e, name in kept.items()
    ]
    figure_panel(
        target_path(found, pos, "log_prob", kept), rows,
        words.provenance(model=found.model, n="1 prompt", where=f"token {found.start + pos}", fitted=found.fitted_on), key="lens-targets",
        look_for="The layer where the target's line leaves the distractor's: there the answer is decided, and there an edit can act.",
    )  # fmt: skip


def attention(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Where each head looks."""
    settings = Read(prompt, lanes_on(), window=_layers_read(session, prompt))
    frame.act("Read the heads", _attend, settings, type="primary", key="attention-run")
    jobs.panel(
        ATTENTION, _attention, settings=settings,
        nothing=lambda: frame.empty("The heads will stand here, a cell each; pick one to see where it looks.", "Press *Read the heads*.",
                                    key="attention"),
    )  # fmt: skip


def _layers_read(session: Session, prompt: Prompt) -> tuple[int, int] | None:
    """Which layers of a long prompt are read, those around the tab's at first. None: all of them."""
    from workbench.lenses.attention import layers_at_once

    info, n = session.model.info, session.n_tokens(prompt)
    most = layers_at_once(info, max(1, n), len(with_base(lanes_on())))
    if most >= info.n_layers:
        return None
    starts = [*range(0, info.n_layers - most, most), info.n_layers - most]
    begin = max(first for first in starts if first <= (state().layer or 0))
    behind = f" of {info.n_layers}"
    first = st.select_slider(
        "Layers", starts, begin, key=f"attention-part-{most}", width=280,
        format_func=lambda i: f"{i} to {i + most - 1}{behind}" if most > 1 else f"{i}{behind}",
        help=f"A head's pattern has {n * n:,} numbers: of a long prompt {words.count(most, 'layer')} at a time can be kept.",
    )  # fmt: skip
    return first, first + most


def _attend(settings: Read) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> AttentionPatterns:
        layers = None if settings.window is None else range(*settings.window)
        return session.look("attention", settings.prompt, stacks=stacks, layers=layers, progress=progress)

    jobs.start(ATTENTION, "Attention", work, settings)


def _attention(found: AttentionPatterns) -> None:
    lane = lane_choice(found.lanes, "attention-lane")
    scores = _head_scores(found, lane)
    kind = st.selectbox("Colour the heads by", list(scores), key="attention-score", width=320)
    if kind not in scores:
        kind = next(iter(scores))
    says, values, signed = scores[kind]
    st.caption(says)
    top = max((abs(x) for line in values for x in line), default=1.0) or 1.0
    layers, heads = [f"layer {layer}" for layer in found.layers], [str(head) for head in range(found.n_heads)]
    shown = [[words.number(x) for x in line] for line in values]
    picked = grid(layers, heads, values, key="head-grid", scale=top, signed=signed, texts=shown, corner="head", column_word="Head")
    row, head = picked or _shown_first(values, found.layers)
    if picked is not None:
        state().layer = found.layers[row]
    pattern = found.pattern[lane, row, head]
    st.markdown(f"**Layer {found.layers[row]}, head {head}**: {words.plain(found.lanes[lane].label)}")
    scope.verbs(found.layers[row], head, key="attention-scope")
    at = looks.looks(found.tokens, pattern, key="attention")
    st.caption(f"Colour: how much token {at} looks at each token before it. Pick another token to look from there.")
    looks.whole(found.tokens, pattern, key="pattern-grid")


def _head_scores(found: AttentionPatterns, lane: int) -> dict[str, tuple[str, list[list[float]], bool]]:
    """Scores of all heads for colouring the grid: name → (what it is, layer × head values, whether signed)."""
    from workbench.lenses.head_kinds import WORDS, head_kinds

    scores = {
        name: (WORDS[name], values[lane].tolist(), False)
        for name, values in head_kinds(found).items()
        if values[lane, 0, 0] == values[lane, 0, 0]
    }
    if not lane:
        return scores
    what = "How far the head's attention moved from the base: total variation, mean over tokens."
    return {"moved from the base": (what, found.distance(lane).tolist(), False), **scores}


def _shown_first(values: Sequence[Sequence[float]], layers: Sequence[int]) -> tuple[int, int]:
    """The largest value, in the tab's layer if it has one."""
    rows = [i for i, layer in enumerate(layers) if layer == state().layer] or list(range(len(values)))
    return max(((i, j) for i in rows for j in range(len(values[i]))), key=lambda at: abs(values[at[0]][at[1]]))


def entry_word(name: str) -> str:
    """An entry of the logit lens as people say it: `3_pre` is what layer 2 left behind, `3_mid` what layer 3's attention left."""
    at, _, kind = name.partition("_")
    if name == "0_pre":
        return "embedding"
    if at == "final":
        return "last layer"
    return f"layer {int(at) - 1}" if kind == "pre" else f"layer {at}, attention"


def _layer(name: str, n_layers: int) -> int | None:
    """The layer whose output an entry is; None for the embedding."""
    at, _, kind = name.partition("_")
    if at == "final":
        return n_layers - 1
    layer = int(at) - (kind == "pre")
    return layer if layer >= 0 else None
