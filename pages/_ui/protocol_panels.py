"""The canonical-examples protocol on a page: success of several methods at equal degradation, beside a random direction of equal size."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages._ui import frame, jobs, words
from pages._ui.figures import figure_panel, table_panel
from workbench.figures.senses import balls

METHODS = {"senses": "Sense finetuning", "lora": "LoRA", "finetuning": "Full finetuning"}


def compare(session: Any) -> None:
    """Set, methods, and how much to try; then one line a method over the degradation balls."""
    sets = {offer.id: offer.title for offer in session.demos.list() if _asks(session, offer)}
    if not sets:
        frame.empty("No set has rows of role train and role evaluation in its splits validation and test.", key="protocol-sets")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Set", list(sets), format_func=sets.__getitem__, key="protocol-set", persist_state="session")
        methods = st.multiselect(
            "Methods", list(METHODS), default=["senses"], format_func=METHODS.__getitem__, key="protocol-methods",
            help="Weights are trained through the network: minutes a method, where senses take seconds.",
        )  # fmt: skip
        draws = st.number_input("Configurations", 1, 25, 5, key="protocol-draws", help="Tried on the validation pair; the default first.")
        seeds = st.number_input("Seeds", 1, 10, 5, key="protocol-seeds", help="Fits on the test pair with the winner.")
    settings = {"set": chosen, "methods": tuple(methods), "draws": int(draws), "seeds": int(seeds)}
    frame.act("Compare methods", _begin, settings, type="primary", key="protocol-run", disabled=not methods)
    jobs.panel("protocol", lambda found: _draw(session, found), settings=settings, nothing=_nothing)


def _asks(session: Any, offer: Any) -> bool:
    """Whether a set asks about the same in other words."""
    return "role:evaluation" in offer.roles or (not offer.is_shipped and bool(session.demos(offer.id).tagged("role:evaluation").rows))


def _begin(settings: dict[str, Any]) -> None:
    def work(session: Any, progress: Any) -> Any:
        options = {"draws": settings["draws"], "seeds": tuple(range(settings["seeds"]))}
        n, found = len(settings["methods"]), []
        for i, method in enumerate(settings["methods"]):
            found += session.protocol(settings["set"], method, progress=progress.part(i / n, (i + 1) / n), **options)
        return found

    jobs.start("protocol", "Comparing methods", work, settings, heavy=True)


def _draw(session: Any, found: Any) -> None:
    rows = [summary.row() for summary in found]
    first = rows[0]
    where = words.provenance(model=session.model.info.name, seed=f"0 to {first['seeds'] - 1}", n=first["n"], split="test")
    figure_panel(
        balls(rows), rows, where, key="protocol-balls",
        says="Success gained on questions in other words, at the last epoch in which the loss on neutral text rose by at most ε; bars are "
        "the standard error over seeds.",
        look_for="A method above its random direction of equal size. A wider ball need not give more. The ball does not protect texts that "
        "must stay: look at *hard negatives rise* in the table.",
    )  # fmt: skip
    table_panel(rows, where, key="protocol-table")
    st.caption(f"Neutral text: {first['general tokens']} predicted tokens. Configurations were chosen on the validation pair.")


def _nothing() -> None:
    frame.empty(
        "Success at equal degradation will stand here, for each method at three balls, with the standard error over seeds and a random "
        "direction of equal size.",
        "Choose a set and methods, then press *Compare methods*.",
        key="protocol",
    )
