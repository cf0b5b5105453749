"""A long watch on a page: lanes that write on, live, until they go round, with entropy, KL and repetition token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.evaluate.choosing import at_own_doses, edits_chosen
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.prompts import prompt
from workbench.conversations import Prompt
from workbench.edits.lane import Lane

if TYPE_CHECKING:
    from workbench.evaluate.watch import Watch
    from workbench.session import Session
    from workbench.workspace.job import Snapshot

PROMPT, ASKED = "A happy story. Ivan went to the", "Tell me a long story about a lighthouse."
_MOST = 3
_CURVES = {"entropy": "Entropy (nats)", "kl": "KL to the untouched model (nats)", "repetition": "Repeated 4-grams of the last 64 tokens"}


@dataclass(frozen=True)
class Watching:
    """A prompt, lanes, and how many tokens at most."""

    prompt: Prompt
    lanes: tuple[Lane, ...]
    tokens: int


WATCH: jobs.Slot[Watching, Watch] = jobs.Slot("watch")


def follow(session: Session) -> None:
    """A prompt and edits beside what each writes, and where it goes round."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        text = prompt(session, "Prompt", PROMPT, key="watch-prompt", asks=ASKED)
        edits = edits_chosen(session, "Edits", key="watch-edits", most=_MOST)
        tokens = st.select_slider("Tokens at most", (100, 200, 400, 1000), 400, key="watch-tokens", persist_state="session")
        settings = Watching(text, at_own_doses(session, edits), int(tokens))
        frame.act("Watch", _begin, settings, type="primary", key="watch-run", disabled=not str(text).strip(), width="stretch")
    with picture:
        jobs.panel(WATCH, _draw, settings=settings, nothing=_nothing, live=_live)


def _begin(settings: Watching) -> None:
    jobs.start(
        WATCH,
        "Watching",
        lambda session, progress: session.watch(settings.prompt, settings.lanes, settings.tokens, progress=progress),
        settings,
        heavy=True,
    )


def _live(shot: Snapshot) -> None:
    lanes: Any = shot.live.get("watch") or ()
    for lane in lanes:
        entropy, kl, repetition = (f"{lane[name][-1]:.2f}" if lane[name] else "" for name in _CURVES)
        ended = f" · ended: {lane['ended']}" if lane["ended"] else ""
        told = f"{words.count(len(lane['entropy']), 'token')} · entropy {entropy} · KL {kl} · repetition {repetition}{ended}"
        st.caption(f"**{words.plain(lane['lane'])}** · {told}")
        st.text(lane["text"][-400:])


def _draw(found: Watch) -> None:
    from workbench.figures.basic import Line, lines

    for at, (lane, one) in enumerate(zip(found.lanes, found.texts)):
        meaning(words.markdown(f"{lane.label}: {one.sentence}"), f"watch-{at}")
        with st.expander(f"{lane.label}, {words.count(len(one.ids), 'token')}", key=f"watch-text-{at}"):
            st.text(one.text)
    curve = st.segmented_control(
        "Curve",
        list(_CURVES),
        default="kl",
        format_func=_CURVES.__getitem__,
        key="watch-curve",
        required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    name = curve or "kl"
    parts = [
        Line("· base" if at == 0 else f"{'ABCDE'[(at - 1) % 5]} {lane.label}", list(range(len(one.ids))), getattr(one, name).tolist(), at)
        for at, (lane, one) in enumerate(zip(found.lanes, found.texts))
    ]
    caption = words.provenance(model=found.model, n=max(len(one.ids) for one in found.texts))
    figure_panel(
        lines(f"{_CURVES[name]} along the text", parts, "token", _CURVES[name]), found.table(), caption, key="watch-figure",
        look_for="A rise of repetition with falling entropy comes before a loop; a lane stops at its first loop.",
    )  # fmt: skip


def _nothing() -> None:
    frame.empty(
        "What each lane writes will stand here, up to where it goes round, ends or fills the context.",
        "Write a prompt, choose edits, then press *Watch*.",
        key="watch",
    )
