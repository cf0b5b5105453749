"""Inspect: what a site holds at every token, of the prompt or of a set: norms or one number, the strongest examples, their spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect.lane import lane_choice
from pages._ui.inspect.reader_file import reader_file
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from pages._ui.kit.state import state
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.reader import SiteReading
    from workbench.progress import Progress
    from workbench.session import Session

_KINDS = {
    "resid_post": "Residual stream behind a layer", "resid_pre": "Residual stream before a layer", "attn_out": "What attention adds",
    "head_z": "Heads, before their output matrix", "mlp_post": "Neurons of the MLP", "mlp_out": "What the MLP adds",
    "ln_final": "Behind the last norm", "sense": "Senses",
}  # fmt: skip
_ON = {"prompt": "The prompt above", "set": "A set"}
N_STRONGEST, N_AROUND, MOST_PROMPTS = 12, 8, 256
READER: jobs.Slot[Looked, SiteReading] = jobs.Slot("reader")


@dataclass(frozen=True)
class Looked:
    """A site, and perhaps one of its numbers, read on a prompt or on a set, in each lane."""

    site: str
    unit: int | None
    prompt: Prompt
    set_id: str
    lanes: Lanes


def reader(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Choose a site and what it is read on."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        on = st.segmented_control("Read on", list(_ON), format_func=_ON.__getitem__, default="prompt", key="reader-on", required=True)
        chosen = _set(session) if on == "set" else ""
        site, width = _site(session)
        unit = st.number_input(
            "One number", 0, width - 1, None, key="reader-unit", placeholder="the norm", width=150,
            help=f"Which of its {width} numbers (a neuron, a dimension). Empty: the length of all together.",
        )  # fmt: skip
        settings = Looked(site, None if unit is None else int(unit), "" if chosen else prompt, chosen, lanes_on())
        frame.act("Read the site", _read, settings, type="primary", key="reader-run")
    jobs.panel(
        READER, _draw, settings=settings,
        nothing=lambda: frame.empty(
            "Every token will stand here, coloured by how much the model holds there; the strongest examples, and how all are spread.",
            "Press *Read the site*.", key="reader",
        ),
    )  # fmt: skip
    reader_file(site, width, prompt, chosen, settings.lanes)


def _set(session: Session) -> str:
    offers = {offer.id: offer.title for offer in session.demos.list()}
    return st.selectbox("Set", list(offers), format_func=offers.__getitem__, key="reader-set", width=240)


def _site(session: Session) -> tuple[str, int]:
    """The chosen address and its width."""
    from workbench.lenses.reader import readable_sites
    from workbench.sites import Site

    known = readable_sites(session.model)
    kinds = [kind for kind in _KINDS if any(site.kind == kind for site in known)]
    kind = st.selectbox("Where", kinds, format_func=_KINDS.__getitem__, key="reader-kind", width=280)
    layers = [site.layer for site in known if site.kind == kind and site.layer is not None]
    layer, head = None, None
    if layers:
        at = state().layer
        first = layers.index(at) if at is not None and at in layers else len(layers) // 2
        layer = st.selectbox("Sense" if kind == "sense" else "Layer", layers, index=first, key=f"reader-layer-{kind}", width=110)
    if kind == "head_z":
        heads = ["all", *range(session.model.info.n_heads)]
        told = st.selectbox("Head", heads, key="reader-head", width=110)
        head = told if isinstance(told, int) else None
    site = Site(kind, layer, head)
    return str(site), session.model.width(site)


def _read(settings: Looked) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> SiteReading:
        options: dict[str, Any] = {"unit": settings.unit, "stacks": stacks, "progress": progress}
        if settings.set_id:
            rows = session.demos(settings.set_id)
            return session.look("reader", None, settings.site, demonstrations=rows.first(MOST_PROMPTS), **options)
        return session.look("reader", settings.prompt, settings.site, **options)

    jobs.start(READER, "Reading a site", work, settings)


def _draw(found: SiteReading) -> None:
    from workbench.figures.reader import spread

    lane = lane_choice(found.lanes, "reader-lane")
    what = "norm" if found.unit is None else f"number {found.unit}"
    n = f"{words.count(len(found.prompts), 'text')}, {words.count(len(found.tokens), 'token')}"
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, where=found.site, n=n)
    left, right = st.columns(2, gap="large")
    with left:
        text = _text(found)
        at = _strip(found, lane, text, what)
        if at is not None:
            _token(found, lane, at, what)
    with right:
        figure_panel(
            spread(found, what), found.rows(), where, key="reader-spread", says=words.plain(found.says),
            look_for="A bar far to the right by itself is a massive token. Two humps are two kinds of token: see the strongest examples.",
        )  # fmt: skip
    st.markdown(f"**Strongest examples**, the highest {what} of each text")
    table_panel(examples(found, lane), where, key="reader-strongest")


def _text(found: SiteReading) -> int:
    n = len(found.prompts)
    if n == 1:
        return 0
    names = [f"{i + 1}  {str(text)[:70]}" for i, text in enumerate(found.prompts)]
    return st.selectbox("Text", range(n), format_func=names.__getitem__, key="reader-text")


def _strip(found: SiteReading, lane: int, text: int, what: str) -> int | None:
    """Draw one text; return the picked token's place among all."""
    places, values, massive = found.places(text), found.values[lane], found.massive[lane]
    ordinary = [float(values[i]) for i in range(len(found.tokens)) if not massive[i]] or [0.0]
    signed = min(ordinary) < 0
    low, top = (0.0, max(map(abs, ordinary)) or 1.0) if signed else (min(ordinary), max(ordinary))
    notes = [f"{what} {words.number(float(values[i]))}" + (", massive" if massive[i] else "") for i in places]
    shades = [max(-1.0, min(1.0, (float(values[i]) - low) / max(top - low, 1e-12))) for i in places]
    marks = ["new" if massive[i] else "" for i in places]
    picked = token_strip(
        [found.tokens[i] for i in places], key=f"reader-strip-{text}", values=shades, signed=signed, notes=notes, marks=marks
    )
    begin = "blue below zero" if signed else f"none at {words.number(low)}"
    said = f"Colour: {what}, {begin}, full at {words.number(top)}, the largest of tokens that are not massive."
    st.caption(said + (" Underlined: massive." if any(marks) else ""))
    return None if picked is None else places[picked]


def _token(found: SiteReading, lane: int, at: int, what: str) -> None:
    with st.container(border=True, key="drawer-reader"):
        value, norm = float(found.values[lane, at]), float(found.norms[lane, at])
        massive = " It is massive: the others lean on it." if found.massive[lane, at] else ""
        st.text(f"{words.token(found.tokens[at])}   {what} {words.number(value)}, norm {words.number(norm)}.{massive}")
        told = zip(found.largest[lane, at].tolist(), found.largest_values[lane, at].tolist())
        st.dataframe([{"its largest numbers": i, "value": x} for i, x in told], hide_index=True, key="reader-largest")
        layer = found.site.partition("@")[2].partition(".")[0]
        if layer and not found.site.startswith("sense"):
            head = found.site.partition(".")[2]
            scope.verbs(int(layer), int(head) if head else None, key="reader-scope")


def examples(found: SiteReading, lane: int) -> list[dict[str, Any]]:
    """The tokens with the highest values, one a text, each with what stands around it."""
    rows: list[dict[str, Any]] = []
    for i in found.strongest(N_STRONGEST, lane):
        places = found.places(int(found.text_of[i]))
        before = "".join(found.tokens[j] for j in places if i - N_AROUND <= j < i)
        after = "".join(found.tokens[j] for j in places if i < j <= i + N_AROUND // 2)
        value = float(found.values[lane, i])
        rows.append(
            {"value": value, "before": before, "token": words.token(found.tokens[i]), "after": after, "text": int(found.text_of[i]) + 1}
        )
    return rows
