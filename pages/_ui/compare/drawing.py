"""Compare: how tokens are drawn, and where a text ends; at first as the model's own folder has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit.words import plain
from workbench.sampling import Sampling

if TYPE_CHECKING:
    from workbench.models.generation import GenerationDefaults
    from workbench.session import Session

_STOPS = {"full stop": ".", "line end": "\n"}
_KEYS = ("sample-n", "sample-heat", "sample-k", "sample-p", "sample-rep", "sample-stop")


MOST_SAMPLES = 8


def sampling(session: Session) -> tuple[Sampling, int]:
    """Draw the controls, of which another model brings its own values; return them, and how many texts a prompt gets."""
    own, chats = session.model.generation, _chats(session)
    _of_this_model(session, own, chats)
    with st.container(horizontal=True):
        n = st.number_input("New tokens", 1, 4000, key="sample-n", persist_state="session", width=140)
        # A folder may ask for what nobody would: its own value is within bounds.
        heat = st.number_input(
            "Temperature",
            0.0,
            max(5.0, own.temperature),
            step=0.1,
            key="sample-heat",
            persist_state="session",
            width=140,
            help="0 is greedy.",
        )
        top_k = st.number_input(
            "Top k", 1, max(100000, own.top_k or 1), key="sample-k", persist_state="session", width=140, placeholder="all", value=None
        )
        top_p = st.number_input("Top p", min(0.01, own.top_p), 1.0, step=0.05, key="sample-p", persist_state="session", width=140)
        low, high = min(0.5, own.repetition_penalty), max(3.0, own.repetition_penalty)
        penalty = st.number_input("Repetition penalty", low, high, step=0.05, key="sample-rep", persist_state="session", width=160)
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="sample-seed", persist_state="session", width=140)
        n_texts = st.number_input(
            "Samples", 1, MOST_SAMPLES, 1, key="sample-count", persist_state="session", width=140, disabled=heat == 0,
            help="Texts of each lane after each prompt; one is shown at a time. Greedy texts are all the same.",
        )  # fmt: skip
    stops = st.multiselect(
        "Stop before", [*_STOPS], key="sample-stop", accept_new_options=True, persist_state="session", placeholder="its own end alone",
        help="Type a text, or choose one; the text ends before it.",
    )  # fmt: skip
    same = st.toggle(
        "The same seed for all lanes", True, key="sample-same", persist_state="session",
        help="Lanes then differ only where their distributions do.",
    )  # fmt: skip
    st.caption(plain(_own(session, own)))
    drawn = Sampling(int(n), heat, top_k, top_p, penalty, int(seed), same)
    return replace(drawn, stop=tuple(_STOPS.get(stop, stop) for stop in stops)), int(n_texts) if heat else 1


def _chats(session: Session) -> bool:
    from workbench.models.chat import has_template

    return has_template(session.model.tokenizer)


def restore(session: Session, how: Sampling, n_texts: int) -> None:
    """Set the controls to a sampling and a number of texts; call it before they are drawn."""
    named = {text: name for name, text in _STOPS.items()}
    values = (
        how.max_new_tokens,
        how.temperature,
        how.top_k,
        how.top_p,
        how.repetition_penalty,
        [named.get(text, text) for text in how.stop],
    )
    st.session_state.update({"sample-of": session.model.fingerprint.weights, **dict(zip(_KEYS, values))})
    st.session_state.update({"sample-seed": how.seed, "sample-same": how.same_seed, "sample-count": n_texts})


def _of_this_model(session: Session, own: GenerationDefaults, chats: bool) -> None:
    """Begin with the model's own values, once a model."""
    now, state = session.model.fingerprint.weights, st.session_state
    if state.get("sample-of") == now and all(key in state for key in _KEYS):
        return
    named = {text: name for name, text in _STOPS.items()}
    values = (
        128 if chats else 24,
        own.temperature,
        own.top_k,
        own.top_p,
        own.repetition_penalty,
        [named.get(text, text) for text in own.stop],
    )
    state.update({"sample-of": now, **dict(zip(_KEYS, values))})


def _own(session: Session, own: GenerationDefaults) -> str:
    """What the folder's generation config says, in a line."""
    ends = " or ".join(session.model.tokenizer.convert_ids_to_tokens(list(own.end_ids))) or "nothing"
    heat = f"temperature {own.temperature:g}, top k {own.top_k or 'all'}, top p {own.top_p:g}" if own.temperature else "greedy"
    penalty = f", repetition penalty {own.repetition_penalty:g}" if own.repetition_penalty != 1 else ""
    never = f" It never says {len(own.suppressed)} tokens." if own.suppressed else ""
    undone = f" Its folder asks for {', '.join(own.undone)}, which is not done here." if own.undone else ""
    return f"The model's own: {heat}{penalty}; its texts end at {ends}.{never}{undone}"
