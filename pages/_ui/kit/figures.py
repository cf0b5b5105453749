"""A figure with what belongs to it: the sentence, the table for those who can't see it, downloads, where it is from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit.frame import is_dark, meaning, source

if TYPE_CHECKING:
    import plotly.graph_objects as go

Rows = Sequence[Mapping[str, Any]]
_PICKING = ("select2d", "lasso2d")
_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "pan2d", "zoom2d"],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}


def figure_panel(
    figure: go.Figure,
    table: Rows,
    caption: str,
    *,
    key: str,
    says: str = "",
    look_for: str = "",
    height: int | None = None,
    alt: str = "",
    selects: bool = False,
    drags: bool = False,
) -> None:
    """Draw a figure.

    Args:
        figure: with a title, and units on its axes; the template is set here.
        table: the numbers behind it, a mapping a row.
        caption: where it is from: model, edit, seed, n, split (`words.provenance`).
        says: what it means, in one sentence. look_for: what to look for, for those who see it the first time.
        alt: the takeaway for screen readers; `says` by default.
        selects: points can be picked with a lasso or a box; read them with `selected`.
        drags: its lines can be dragged; `components.drag_lines` listens.
    """
    from workbench.figures.theme import themed, title_of

    themed(figure, dark=is_dark())
    if height:
        figure.update_layout(height=height)
    with st.container(key=f"figure-{key}"):
        view = st.session_state.get(f"{key}-view", "Picture")
        if view == "Table":
            st.dataframe(list(table), hide_index=True, width="stretch", key=f"{key}-table")
        else:
            _plot(figure, key, alt or says or title_of(figure) or "Figure", selects, drags)
        if says:
            meaning(says, key)
        with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-foot"):
            st.segmented_control(
                "View", ["Picture", "Table"], default="Picture", key=f"{key}-view", label_visibility="collapsed", required=True
            )
            _downloads(figure, table, key)
            if look_for:
                with st.popover("What to look for", type="tertiary", icon=":material/visibility:"):
                    st.markdown(look_for)
        source(caption, key, _words(figure), look_for)


def _words(figure: go.Figure) -> str:
    """What a figure says: its title and its axes."""
    axes = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    return " ".join(str(text) for text in (figure.layout.title.text, *axes) if text)


def _plot(figure: go.Figure, key: str, alt: str, selects: bool, drags: bool) -> None:
    config = {**_CONFIG, "toImageButtonOptions": {**_CONFIG["toImageButtonOptions"], "filename": f"retouch-{key}"}}
    if selects:
        config |= {"modeBarButtonsToRemove": [name for name in _CONFIG["modeBarButtonsToRemove"] if name not in _PICKING]}
    if drags:
        config |= {"edits": {"shapePosition": True}}
    picking: dict[str, Any] = {"on_select": "rerun", "selection_mode": ("points", "box", "lasso")} if selects else {}
    st.plotly_chart(figure, key=f"{key}-plot", config=config, theme=None, alt=alt, **picking)


def _downloads(figure: go.Figure, table: Rows, key: str) -> None:
    with st.popover("Download", type="tertiary", icon=":material/download:"):
        st.download_button("Table as CSV", lambda: as_csv(table), f"retouch-{key}.csv", "text/csv", key=f"{key}-csv", on_click="ignore")
        st.download_button(
            "Picture as HTML", lambda: figure.to_html(include_plotlyjs=True), f"retouch-{key}.html", "text/html", key=f"{key}-html",
            on_click="ignore",
        )  # fmt: skip
        st.caption("PNG: the camera above the picture, at its right.")


def selected(key: str) -> tuple[int, ...]:
    """The places of the points picked in the figure of this key: the first value of each one's custom data, in order, once each."""
    event = st.session_state.get(f"{key}-plot")
    points = ((event or {}).get("selection") or {}).get("points", []) if hasattr(event, "get") else []
    return tuple(dict.fromkeys(int(point["customdata"][0]) for point in points if point.get("customdata")))


def table_panel(table: Rows, caption: str, *, key: str, columns: Mapping[str, Any] | None = None) -> None:
    """Draw a table with a download and where it is from."""
    st.dataframe(list(table), hide_index=True, width="stretch", column_config=columns, key=f"{key}-table")
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-foot"):
        st.download_button(
            "CSV", lambda: as_csv(table), f"retouch-{key}.csv", "text/csv", key=f"{key}-csv", type="tertiary", on_click="ignore"
        )
        source(caption, key, *_cells(table))


def _cells(table: Rows) -> list[str]:
    """The words of a table: its columns and what it holds in text."""
    return [
        *dict.fromkeys(str(name) for row in table for name in row),
        *{cell for row in table for cell in row.values() if isinstance(cell, str)},
    ]


def as_csv(table: Rows) -> str:
    """A table as CSV, its columns in the order of first appearance."""
    names = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
