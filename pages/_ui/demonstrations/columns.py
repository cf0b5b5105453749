"""Demonstrations: which column of an unknown file is the prompt, which the good and which the bad answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from workbench.data.columns import guessed
from workbench.data.formats import recognised

_OURS = {
    "prompt": "Prompt", "positive": "Positive", "negative": "Negative", "label": "Label", "split": "Split", "id": "Id",
}  # fmt: skip


def mapping_form(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[str, str], ...] | None:
    """Draw the choice of columns over the first rows as they are; return (ours, theirs) pairs, none for a layout that is known and read
    as it is, and None as long as no column is the prompt."""
    if not rows:
        return ()
    theirs = [name for name in rows[0] if name.isprintable()]
    known = recognised(dict(rows[0]))
    if known is not None and (not theirs or not st.toggle("Say myself which column is which", key=f"{key}-map-own")):
        return ()
    if known is None:
        st.markdown("The columns are those of no known layout. **Which is which?**")
    st.dataframe([{name: _cell(row.get(name)) for name in theirs} for row in rows], hide_index=True, height=38 + 35 * len(rows))
    likely, found = guessed(theirs), list[tuple[str, str]]()
    with st.container(key=f"{key}-map"):
        places = st.columns(3)
        for i, (ours, title) in enumerate(_OURS.items()):
            at = theirs.index(likely[ours]) if ours in likely else None
            name = places[i % 3].selectbox(title, theirs, index=at, key=f"{key}-map-{ours}-{'-'.join(theirs)}", placeholder="none")
            if name is not None:
                found.append((ours, name))
        tags = st.multiselect(
            "Tags", theirs, [likely[name] for name in ("tags",) if name in likely], key=f"{key}-map-tags-{'-'.join(theirs)}"
        )
    if tags:
        found.append(("tags", ",".join(tags)))
    if "prompt" not in dict(found):
        st.caption("Choose the column that holds the prompts.")
        return None
    return tuple(found)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) < 200 else f"{text[:199]}…"
