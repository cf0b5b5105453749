"""Compare: the angle between two edits that are stacked in a lane: whether both push the same way."""

from __future__ import annotations

from math import acos, degrees
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.angles import ANGLES, compare_directions, pair_of

if TYPE_CHECKING:
    from workbench.lenses.edit_angles import EditAngles


def angle(one: str, other: str, key: str) -> None:
    """Measure it when asked, and say it at the layer where it is smallest; *Spectra* has every layer."""
    settings = pair_of(one, other)
    frame.act(
        "Angle between the two", compare_directions, settings, key=f"{key}-angle", help="What each adds to the stream of neutral text."
    )
    if jobs.is_running(ANGLES) or jobs.settings_of(ANGLES) == settings:
        jobs.panel(ANGLES, _told)


def _told(found: EditAngles) -> None:
    """The smallest angle of both, beside that of random directions as many."""
    shared = [at for at, cosines in enumerate(found.cosines) if len(cosines)]
    if not shared:
        st.caption("No layer is moved by both, so there is no angle between them.")
        return
    at = max(shared, key=lambda i: float(found.cosines[i][0]) - float(found.random[i][0]))
    angles = [degrees(acos(min(1.0, float(cosines[at][0])))) for cosines in (found.cosines, found.random)]
    n = words.count(found.n_tokens, "token")
    st.caption(
        f"Nearest at layer {found.layers[at]}: {angles[0]:.0f}° apart (random directions as many: {angles[1]:.0f}°; {n} of neutral text). "
        "Below the random angle, both push the same way, and together they push twice. *Spectra* has every layer."
    )
