"""Inspect: any direction of the stream as a card: words up and down, texts along it, what it resembles; steering by it without a fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect import cells
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import known_edits
from pages._ui.kit.state import part, state
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.cell_edits import Draft
    from workbench.lenses.directions import DirectionCard, Origin
    from workbench.progress import Progress
    from workbench.session import Session

_KINDS = {
    "token": "A token", "prompts": "The prompt above less another", "head": "What a head writes", "mean": "Difference of a set's sides",
    "probe": "A probe on a set", "edit": "An edit",
}  # fmt: skip
# The set of which the refusal direction is made.
_REFUSAL = "refusal"
N_ALONG = 10
CARD: jobs.Slot[Described, DirectionCard] = jobs.Slot("direction")
STEER: jobs.Slot[Steered, Draft] = jobs.Slot("direction-steer")


@dataclass(frozen=True)
class Made:
    """What a direction is made of: words, a head, a set or an edit by its id."""

    kind: str
    given: Prompt = ""
    other: Prompt = ""
    head: str = ""
    source: str = ""
    title: str = ""


@dataclass(frozen=True)
class Described:
    """A direction behind a layer, what it is compared with, and the set whose texts are put along it."""

    made: Made
    layer: int
    beside: tuple[Made, ...]
    along: str


@dataclass(frozen=True)
class Steered:
    """A direction added behind a layer, `size` of a token's norm, run on a prompt."""

    made: Made
    layer: int
    size: float
    prompt: Prompt


def directions(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Choose what a direction is made of and at which layer; describe it, or steer by it at once."""
    sets = {offer.id: offer.title for offer in session.demos.list()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox("Direction of", list(_KINDS), format_func=_KINDS.__getitem__, key="direction-kind", width=260)
        own = _made(session, kind, prompt, targets, sets)
        n, at = session.model.info.n_layers, state().layer
        first = at if at is not None and at < n else n // 2
        layer = st.selectbox("Behind layer", range(n), index=first, key=f"direction-layer-{n}", width=130)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        beside = _beside(session, own, targets, sets)
        along = st.selectbox("Texts along it", ["", *sets], format_func=lambda key: sets.get(key, "none"), key="direction-along", width=260)
        settings = None if own is None else Described(own, layer, beside, along)
        frame.act("Describe it", _describe, settings, type="primary", key="direction-run", disabled=settings is None)
    jobs.panel(
        CARD, lambda found: _card(found), settings=settings,
        nothing=lambda: frame.empty(
            "The direction's card will stand here: the words that it raises and lowers, the texts along it, the directions it resembles.",
            "Choose what it is made of, and press *Describe it*.", key="direction",
        ),
    )  # fmt: skip
    if own is not None:
        _steering(Steered(own, layer, 0.0, prompt))


def _made(session: Session, kind: str, prompt: Prompt, targets: tuple[str, ...], sets: dict[str, str]) -> Made | None:
    """Draw the fields of a kind; None while something is lacking."""
    if kind == "token":
        given = st.text_input(
            "Token", targets[0] if targets else "", key="direction-token", placeholder="a word, with its space", width=160
        )
        other = st.text_input("less", "", key="direction-less", placeholder="the mean token", width=160)
        return Made(kind, given, other) if given else None
    if kind == "prompts":
        other = st.text_input("Another prompt", key="direction-other", width=300)
        return Made(kind, prompt, other) if other.strip() else None
    if kind == "head":
        layers = session.model.layers_of("head_z")
        if not layers:
            st.caption("This model shows no single heads.")
            return None
        layer = st.selectbox("Layer", layers, key="direction-head-layer", width=100)
        head = st.selectbox("Head", range(session.model.info.n_heads), key="direction-head", width=100)
        return Made(kind, prompt, head=f"{layer}.{head}")
    known = known_edits(session) if kind == "edit" else sets
    if not known:
        st.caption("There is no edit of this model yet: fit one, or make one of a cell.")
        return None
    label = "Edit" if kind == "edit" else "Set"
    chosen = st.selectbox(label, list(known), format_func=known.__getitem__, key=f"direction-{kind}", width=260)
    title = known[chosen] if kind == "edit" else f"{'probe' if kind == 'probe' else 'difference of means'} on {known[chosen]}"
    return Made(kind, prompt if kind == "edit" else "", source=chosen, title=title)


def _beside(session: Session, own: Made | None, targets: tuple[str, ...], sets: dict[str, str]) -> tuple[Made, ...]:
    """Choose what it is compared with: the refusal direction, both targets, the edits at hand."""
    known = [Made("token", target, title=f"token {words.token(target)}") for target in targets]
    if _REFUSAL in sets:
        known.insert(0, Made("mean", source=_REFUSAL, title="the refusal direction"))
    known += [Made("edit", "", source=key, title=name) for key, name in list(known_edits(session).items())[:6]]
    offered = {one.title: one for one in known if own is None or (one.kind, one.source, one.given) != (own.kind, own.source, own.given)}
    chosen = st.multiselect("Compare it with", list(offered), list(offered)[:1], key=f"direction-beside-{len(offered)}", width=360)
    return tuple(offered[title] for title in chosen)


def origin(session: Session, told: Made, prompt: Prompt = "") -> Origin:
    """What a direction is made of, its set and edit loaded."""
    from workbench.lenses.directions import Origin

    is_set, is_edit = told.kind in ("mean", "probe"), told.kind == "edit"
    return Origin(
        told.kind, told.given or prompt, told.other, told.head, session.demos(told.source) if is_set else None,  # pyright: ignore[reportArgumentType]
        session.load_edit(told.source) if is_edit else None, told.title,
    )  # fmt: skip


def _describe(settings: Described | None) -> None:
    if settings is None:
        return

    def work(session: Session, progress: Progress) -> DirectionCard:
        prompt = settings.made.given
        others = [origin(session, one, prompt) for one in settings.beside]
        rows = session.demos(settings.along) if settings.along else None
        return session.look(
            "direction_card", origin(session, settings.made), settings.layer, others, demonstrations=rows, progress=progress
        )

    jobs.start(CARD, "Describing a direction", work, settings)


def _card(found: DirectionCard) -> None:
    from workbench.figures.directions import resemblance, words_of

    where = words.provenance(model=found.model, where=f"behind layer {found.layer}", lane="the untouched model")
    left, right = st.columns(2, gap="large")
    with left:
        figure_panel(
            words_of(found), found.rows(), where, key="direction-words",
            look_for="Words of one meaning on one side: the direction says it. A mix says that the direction works through later layers.",
        )  # fmt: skip
    with right:
        if found.cosines:
            rows = [{"direction": name, "cosine": x} for name, x in found.cosines]
            says = f"A random direction has a cosine within ±{2 * found.chance:.2f} in 19 of 20 cases."
            figure_panel(resemblance(found), rows, where, key="direction-cosines", says=says)
        else:
            st.caption("It is compared with nothing: choose directions above.")
    if found.along:
        _along(found)


def _along(found: DirectionCard) -> None:
    auc = found.auc
    held = "Texts that the direction was not made of"
    told = f"too few for a score, {words.count(len(found.along), 'text')}" if auc is None else (
        f"AUC of good over bad {words.interval(auc.estimate, auc.low, auc.high, auc.n)}"
    )  # fmt: skip
    st.markdown(f"**{held}**, of {words.plain(found.data)}: {told}.")
    ends = [*found.along[:N_ALONG], *found.along[max(N_ALONG, len(found.along) - N_ALONG) :]]
    rows: list[dict[str, Any]] = [{"along": one.projection, "side": one.side, "text": one.text} for one in ends]
    table_panel(rows, words.provenance(model=found.model, split="held out", n=len(found.along)), key="direction-along-rows")


def _steering(settings: Steered) -> None:
    with st.container(border=True, key="drawer-direction"), st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.slider("Size", -2.0, 2.0, 0.5, 0.1, key="direction-size", width=260,
                         help="Of a median token's norm there, added at every token. Below 0 it steers away.")  # fmt: skip
        asked = replace(settings, size=float(size))
        frame.act("Steer by it", _steer, asked, type="primary", key="direction-steer", disabled=not size)
    jobs.panel(STEER, _draft, settings=asked)


def _steer(settings: Steered) -> None:
    def work(session: Session, progress: Progress) -> Draft:
        source = origin(session, settings.made)
        draft = session.look("steering", settings.prompt, source, settings.layer, size=settings.size, progress=progress)
        session.shelf.draft(draft.edit)
        return draft

    jobs.start(STEER, "Steering by a direction", work, settings)


def _draft(made: Draft) -> None:
    key = made.edit.id
    if key not in part(cells.Drafts).shown:
        part(cells.Drafts).shown.add(key)
        state().turn_on(key)
        st.rerun()
    cells.said(made, words.plain(made.says))
