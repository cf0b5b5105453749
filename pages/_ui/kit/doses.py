"""The one slider of a dose: the same range on every page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from workbench.edits.lane import HIGHEST_DOSE, LOWEST_DOSE

HELP = "0 is the untouched model, 1 as fitted, below 0 the opposite."


def dose_slider(
    label: str, *, key: str, help: str = HELP, on_change: Callable[..., None] | None = None, args: tuple[Any, ...] = (), **options: Any
) -> float:
    """Draw the slider of a dose whose value `st.session_state[key]` holds; return the dose."""
    return st.slider(label, LOWEST_DOSE, HIGHEST_DOSE, step=0.05, key=key, help=help, on_change=on_change, args=args, **options)
