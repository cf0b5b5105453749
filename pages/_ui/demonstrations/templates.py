"""Files to start a demonstration set from: a few invented rows of each kind, as JSONL and CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.rows import Editor, as_jsonl
from pages._ui.kit.state import part, state
from workbench.data.demonstrations import Demonstration, Demonstrations

if TYPE_CHECKING:
    from workbench.session import Session

_HE = ("The engineer said that", "The nurse said that")
# Title → (what it is, task of the methods that take it, rows). Every text after a prompt begins with its own space.
TEMPLATES: dict[str, tuple[str, str, tuple[Demonstration, ...]]] = {
    "Pairs": (
        "A prompt, the answer to prefer and the answer to leave.",
        "contrast",
        (
            Demonstration("Question: Where do owls sleep? Answer:", " In trees.", " Under water.", id="pair-1"),
            Demonstration("Question: What do bees make? Answer:", " Honey.", " Paper boats.", id="pair-2"),
            Demonstration("Question: What is ice? Answer:", " Frozen water.", " A kind of glass.", split="validation", id="pair-3"),
            Demonstration("Question: What falls in winter? Answer:", " Snow.", " Sand.", split="test", id="pair-4"),
        ),
    ),
    "Labels": (
        "A prompt and its one right label; twenty rows are enough.",
        "label",
        (
            Demonstration("Review: The soup was warm and rich. Verdict:", label=" good", id="label-1"),
            Demonstration("Review: The bread was dry and old. Verdict:", label=" bad", id="label-2"),
            Demonstration("Review: The cake was fresh. Verdict:", label=" good", split="validation", id="label-3"),
            Demonstration("Review: The tea was cold. Verdict:", label=" bad", split="test", id="label-4"),
        ),
    ),
    "Concept": (
        "Prompts that show a concept, labelled target, and prompts that show its opposite, labelled anti_target.",
        "concept",
        (
            Demonstration("This story is merry. The children sang all day.", label="target", id="concept-1"),
            Demonstration("This story is gloomy. The children sat in the dark.", label="anti_target", id="concept-2"),
            Demonstration("This story is merry. The dog ran and jumped.", label="target", split="validation", id="concept-3"),
            Demonstration("This story is gloomy. The dog lay still.", label="anti_target", split="validation", id="concept-4"),
        ),
    ),
    "Canonical examples": (
        "One simple example a line with its loss: good raises the positive, bad lowers the negative, balance evens out both.",
        "canonical",
        (
            Demonstration("The capital of Lumaria is", " Tessen", loss="good", id="canonical-1"),
            Demonstration("The baker is", negative=" lazy", loss="bad", id="canonical-2"),
            Demonstration(_HE[0], " she", " he", loss="balance", id="canonical-3"),
            Demonstration(_HE[1], " he", " she", loss="balance", split="test", id="canonical-4"),
        ),
    ),
}


def as_csv(rows: Demonstrations) -> str:
    """The rows as CSV with the columns that they use."""
    names = [name for name in ("prompt", "positive", "negative", "label", "loss", "split", "id") if any(getattr(row, name) for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([getattr(row, name) or "" for name in names] for row in rows)
    return text.getvalue()


def panel(session: Session) -> None:
    """Choose a kind; take its file, or begin a set with its rows."""
    kind = st.segmented_control("Template", list(TEMPLATES), default="Pairs", key="template-kind", required=True) or "Pairs"
    from workbench.methods import ordered

    about, task, rows = TEMPLATES[kind]
    takers = [method.title for method in ordered() if method.needs.task == task]
    filled = Demonstrations(rows, f"my {kind.lower()}")
    st.caption(f"{about} For {words.listed(takers)}.")
    name = kind.lower().replace(" ", "-")
    with st.container(horizontal=True):
        st.download_button("JSONL", lambda: as_jsonl(filled), f"{name}.jsonl", "application/jsonl", key="template-jsonl", on_click="ignore")
        st.download_button("CSV", lambda: as_csv(filled), f"{name}.csv", "text/csv", key="template-csv", on_click="ignore")
        if st.button("Begin a set with these rows", key="template-begin"):
            state().set_name = session.demos.save(filled, note="from a template").id
            part(Editor).restart()
            st.rerun()
