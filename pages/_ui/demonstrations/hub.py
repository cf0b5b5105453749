"""Demonstrations: a Hugging Face dataset by its id or folder, with configuration, part, conditions and a limit."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from pages._ui.demonstrations import columns
from pages._ui.kit import frame
from pages._ui.kit.state import part
from workbench.data.conditions import Condition
from workbench.data.hub import LIMIT, HubSource, configurations, parts, peek, read_hub
from workbench.data.reading import Record
from workbench.data.sources import Imported
from workbench.errors import RetouchError
from workbench.progress import Progress


@dataclass(frozen=True)
class Dataset:
    """A dataset's rows that are wanted."""

    source: HubSource

    @property
    def dataset(self) -> str:
        return self.source.dataset

    def read(self, mapping: dict[str, str] | None, progress: Progress) -> Imported:
        """Read them, streaming."""
        return read_hub(self.source, mapping=mapping, progress=progress)


@dataclass
class Looked:
    """What the hub said of datasets in this tab: a request each takes seconds."""

    configs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parts: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    heads: dict[tuple[str, str, str], tuple[Record, ...]] = field(default_factory=dict)


def hub_form() -> tuple[Dataset, tuple[tuple[str, str], ...]] | None:
    """Draw the form; return what to read and how its columns are mapped, None as long as that is not said."""
    st.caption("A dataset of the hub by its id, or a folder on this machine. Rows are streamed: only those that are kept are read.")
    name = st.text_input("Dataset", key="hub-dataset", placeholder="truthfulqa/truthful_qa, or a folder").strip()
    if not name:
        return None
    try:
        return _choices(name)
    except RetouchError as error:
        frame.problem(error, "hub")
        return None


def _choices(name: str) -> tuple[Dataset, tuple[tuple[str, str], ...]] | None:
    looked = part(Looked)
    with st.spinner(f"Asking what {name} holds"):
        if name not in looked.configs:
            looked.configs[name] = configurations(name)
        left, middle, right = st.columns([2, 2, 1])
        config = left.selectbox("Configuration", looked.configs[name], key=f"hub-config-{name}") or ""
        if (name, config) not in looked.parts:
            looked.parts[name, config] = parts(name, config or None)
        chosen = middle.selectbox("Part", looked.parts[name, config], key=f"hub-part-{name}-{config}") or "train"
        limit = right.number_input("Rows at most", 1, 200_000, LIMIT, key="hub-limit")
        source = HubSource(name, config or None, chosen, limit=limit)
        if (at := (name, config, chosen)) not in looked.heads:
            looked.heads[at] = peek(source)
    mapping = columns.mapping_form([record.values for record in looked.heads[at]], "hub")
    told = st.text_input("Only rows where", key="hub-where", placeholder="category=Health; score>=0.5; question~owl").split(";")
    where = tuple(Condition.read(text.strip()) for text in told if text.strip())
    if mapping is None:
        return None
    return Dataset(HubSource(name, config or None, chosen, where, limit)), mapping
