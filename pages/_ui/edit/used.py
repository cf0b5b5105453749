"""Edit, before fitting: which rows are used for what, which tokens are read and written, and in which layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.reading import LEGEND, row_strip
from workbench.data.demonstrations import Demonstrations
from workbench.settings import FitSettings

if TYPE_CHECKING:
    from workbench.methods.registry import Method
    from workbench.methods.shared.reading import FittedAt
    from workbench.session import Session


def panel(
    session: Session, demonstrations: Demonstrations, known: Method, settings: FitSettings, at: FittedAt | None, *, is_readable: bool
) -> None:
    """Say and draw what the button will use.

    Args:
        at: its layers and its reading, as far as they are known before. is_readable: whether the form's values can be read.
    """
    with st.container(border=True, key="used"):
        st.caption("What the next fit uses")
        _rows(demonstrations, known, is_own=not session.demos.info(str(settings.source)).is_shipped)
        if not is_readable:
            return
        st.caption(_layers(at))
        fit = demonstrations.split("fit")
        if len(fit):
            said = row_strip(session, demonstrations.with_rows([fit[0]]), "positive", settings, key="used-strip")
            st.caption(f"{said} {LEGEND}" if said else "Which tokens it reads and writes, this method settles while it fits.")


def _rows(demonstrations: Demonstrations, known: Method, *, is_own: bool) -> None:
    from workbench.methods.shared.needs import n_complete  # methods wait for torch

    n = {split: len(demonstrations.split(split)) for split in ("fit", "validation", "test")}
    whole = n_complete(known.needs, demonstrations.split("fit"))
    lack = f" ({words.count(whole, 'of them has', 'of them have')} all that it needs)" if whole < n["fit"] else ""
    st.markdown(
        f"**{words.count(n['fit'], 'row')} of {len(demonstrations):,}** will be fitted{lack}, {n['validation']} choose, and "
        f"{n['test']} are kept apart to measure it.",
        help="The splits fit, validation and test. Nothing is fitted or chosen on test rows.",
    )
    if is_own and n["fit"] < len(demonstrations):
        st.caption("Rows that come without a split are given one: 40 % fit, 10 % validation, 50 % test, whole questions at a time.")
        st.page_link("pages/demonstrations.py", label="Change the splits", icon=":material/splitscreen:")


def _layers(at: FittedAt | None) -> str:
    if at is None:
        return "Which layers: the method's own, as its knobs say."
    which = words.listed([str(layer) for layer in at.layers]) if at.layers else "it looks for them"
    return f"Which layers: {which}. *Before fitting* has the evidence for each."
