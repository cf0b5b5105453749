"""The choice of a layer, which a tab keeps from page to page."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from pages._ui.kit.state import state


def layer_choice(layers: Iterable[int], key: str) -> int:
    """Choose a layer; the tab's layer stands at first, and the choice becomes the tab's."""
    options = [int(layer) for layer in layers]
    if st.session_state.get(key) not in options:
        st.session_state[key] = state().layer if state().layer in options else options[0]
    if len(options) == 1:
        return options[0]
    return st.select_slider("Layer", options, key=key, persist_state="session", width=320, on_change=_keep, args=(key,))


def _keep(key: str) -> None:
    state().layer = st.session_state[key]
