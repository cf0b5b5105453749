"""Which model do you want to work on, and what will work on it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, loading, words
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.backend import backend, ready
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.state import state
from workbench.figures.basic import next_token_bars

if TYPE_CHECKING:
    from workbench.session import Progress, Session, catalog

EMBEDDED = {"embedded": "GPT-style, 6 layers", "embedded-backpack": "Backpack, with senses"}
FLOATS = ("float32", "bfloat16", "float16", "float64")
PROMPT = "Question: What do carrots help most? Answer:"
ESTIMATE: jobs.Slot[AskedModel, catalog.MemoryEstimate] = jobs.Slot("estimate", of_tab=True)
# Tokens with their probabilities.
NEXT: jobs.Slot[Prompted, list[tuple[str, float]]] = jobs.Slot("next")


@dataclass(frozen=True)
class Prompted:
    """A prompt to a model."""

    prompt: str
    model: str


def choose() -> None:
    """Choose a model, see what it needs, load it."""
    where = st.segmented_control("Where is it?", ["Embedded", "Folder", "Hub"], default="Embedded", key="model-where", required=True)
    if where == "Embedded":
        name = st.selectbox("Model", list(EMBEDDED), format_func=lambda key: f"{key} · {EMBEDDED[key]}", key="model-embedded")
    elif where == "Folder":
        name = st.text_input("Folder", placeholder="/path/to/a/folder or smollm2-135m", key="model-folder", persist_state="session")
        st.caption("A folder that `save_pretrained` wrote, a .gguf file, or the name of a model that `retouch models get` fetched.")
    else:
        name = st.text_input("Hub id", placeholder="openai-community/gpt2", key="model-hub", persist_state="session")
        st.caption("Needs a network, or a model that is in the local cache already.")
    with st.expander("Number type and device"):
        dtype = st.segmented_control("Number type", FLOATS, default="float32", key="model-dtype", required=True)
        device = st.selectbox("Device", backend().devices(), key="model-device")
    settings = AskedModel(name, dtype or FLOATS[0], device)
    with st.container(horizontal=True):
        frame.act("Check size", _check, settings, key="model-check", disabled=not name)
        frame.act("Load", loading.load, settings, type="primary", key="model-load", disabled=not name)
    jobs.panel(ESTIMATE, _estimate, settings=settings)
    loading.progress_panel()


def _check(settings: AskedModel) -> None:
    def work(session: Session, _: Progress) -> catalog.MemoryEstimate:
        return session.estimate(settings.name, dtype=settings.dtype, device=settings.device)

    jobs.start(ESTIMATE, f"Looking up {settings.name}", work, settings)


def _estimate(size: catalog.MemoryEstimate) -> None:
    sign = "fits" if size.fits else "does not fit"
    st.markdown(f"**{words.parameters(size.n_parameters)} parameters**, {words.plain(size.architecture)}: {sign}.")
    st.progress(min(1.0, size.bytes_needed / max(1, size.bytes_free)))
    st.caption(f"Needs about {words.size(size.bytes_needed)} of {words.size(size.bytes_free)} that are free now.")


def facts(session: Session) -> None:
    """What the model is, what works on it, and the proof that it speaks."""
    info = session.model.info
    st.subheader(words.plain(info.name), anchor=False)
    cells = {
        "architecture": info.architecture, "parameters": words.parameters(info.n_parameters), "layers": info.n_layers,
        "heads": info.n_heads, "width": info.d_model, "vocabulary": f"{info.d_vocab:,}", "context": f"{info.n_ctx:,} tokens",
        "number type": info.dtype, "device": info.device, "weights": session.model.fingerprint.weights[:12],
    }  # fmt: skip
    st.html(
        "<div class='facts'>" + "".join(f"<span><i>{key}</i>{words.safe(str(value))}</span>" for key, value in cells.items()) + "</div>"
    )
    speak, works = st.tabs(["Does it speak?", "What works on it"])
    with speak:
        prompt = st.text_input("Prompt", PROMPT, key="model-prompt", persist_state="session")
        settings = Prompted(prompt, info.name)
        frame.act("Predict", _predict, settings, key="model-predict", type="primary")
        jobs.panel(
            NEXT, _next, settings=settings, nothing=lambda: frame.empty("The likeliest next tokens will stand here.", key="next").space()
        )
    with works:
        st.dataframe(session.capabilities(), hide_index=True, width="stretch")


def _predict(settings: Prompted) -> None:
    jobs.start(NEXT, "Predicting", lambda session, _: session.next_tokens(settings.prompt), settings)


def _next(found: list[tuple[str, float]]) -> None:
    best = found[0]
    figure = next_token_bars("Likeliest next tokens", [("base", [(words.token(text), share) for text, share in found])])
    figure_panel(
        figure,
        [{"token": words.token(text), "probability": share} for text, share in found],
        words.provenance(model=state().model, n="1 prompt"),
        key="next",
        says=f"It expects `{words.token(best[0])}` with probability {words.number(best[1])}.",
    )


frame.page("Model", __doc__ or "")
left, right = st.columns([1, 2], gap="large")
with left:
    choose()
with right:
    if (opened := ready()) is not None:
        facts(opened)
