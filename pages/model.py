"""Which model do you want to work on, and what will work on it?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.backend import backend, ready
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.prompts import prompt
from pages._ui.kit.state import FIRST, state
from pages._ui.model import choosing
from workbench.figures.basic import next_token_bars

if TYPE_CHECKING:
    from workbench.session import Prompt, Session

PROMPT, REAL_PROMPT = "Question: What do carrots help most? Answer:", "The capital of France is"
REAL_ASKED = "What is the capital of France?"
# Tokens with their probabilities.
NEXT: jobs.Slot[Prompted, list[tuple[str, float]]] = jobs.Slot("next")


@dataclass(frozen=True)
class Prompted:
    """A prompt to a model."""

    prompt: Prompt
    model: str


def facts(session: Session) -> None:
    """What the model is, what works on it, and the proof that it speaks."""
    info, asked = session.model.info, AskedModel.of(state().model)
    is_embedded = asked.name.startswith(FIRST)
    st.header(words.plain(Path(info.name).name), anchor=False)
    if not is_embedded:
        choosing.note(session, asked.name)
    cells = {
        "architecture": info.architecture, "parameters": words.parameters(info.n_parameters), "layers": info.n_layers,
        "heads": info.n_heads, "width": info.d_model, "vocabulary": f"{info.d_vocab:,}", "context": f"{info.n_ctx:,} tokens",
        "number type": info.dtype, "device": info.device, "weights": session.model.fingerprint.weights[:12],
        "memory of the weights": words.size(session.weight_bytes()), "loaded in": words.seconds(backend().seconds[state().model]),
    }  # fmt: skip
    st.html(
        "<div class='facts'>" + "".join(f"<span><i>{key}</i>{words.safe(str(value))}</span>" for key, value in cells.items()) + "</div>"
    )
    speak, works = st.tabs(["Does it speak?", "What works on it"])
    with speak:
        asked_for = prompt(session, "Prompt", PROMPT if is_embedded else REAL_PROMPT, key="model-prompt", asks=REAL_ASKED)
        settings = Prompted(asked_for, info.name)
        frame.act("Predict", _predict, settings, key="model-predict", type="primary")
        jobs.panel(
            NEXT, _next, settings=settings, nothing=lambda: frame.empty("The likeliest next tokens will stand here.", key="next").space()
        )
    with works:
        _works(session.capabilities())


def _works(rows: list[dict[str, str]]) -> None:
    """What works in a sentence; what does not, or only in part, in a table whose reasons are read whole."""
    for kind in dict.fromkeys(row["kind"] for row in rows):
        fine = [row["what"] for row in rows if row["kind"] == kind and not row["why"]]
        what = {"method": "Methods", "lens": "Lenses"}.get(kind, kind)
        st.markdown(f"**{what} that work:** {words.plain(words.listed(fine) or 'none')}.")
    others = [{key: words.plain(row[key]) for key in ("what", "kind", "works", "why")} for row in rows if row["why"]]
    if others:
        st.table(others, border="horizontal", hide_index=True)


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
left, right = st.columns([2, 3], gap="large")
with left:
    choosing.choose()
with right:
    if (opened := ready()) is not None:
        facts(opened)
