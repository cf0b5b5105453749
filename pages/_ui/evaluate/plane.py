"""A dose as a plane, on a page: what turning and scaling one layer gains and breaks, and where edits stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate.choosing import at_own_doses, edits_chosen, set_chosen
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.frame import meaning
from workbench.settings import DosePlaneSettings

if TYPE_CHECKING:
    from workbench.evaluate.dose_plane import DosePlane
    from workbench.session import Session

PLANE: jobs.Slot[DosePlaneSettings, DosePlane] = jobs.Slot("dose-plane")
_MOST = 4


def turn(session: Session) -> None:
    """A set, a layer and edits beside the plane of that layer."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        settings = _settings(session)
        if settings is not None:
            frame.act("Measure the plane", _begin, settings, type="primary", key="plane-run", width="stretch")
    with picture:
        jobs.panel(PLANE, _draw, settings=settings, nothing=_nothing)


def _settings(session: Session) -> DosePlaneSettings | None:
    from workbench.operations import TransformAt  # imports torch

    chosen = set_chosen(session, key="plane-set")
    edits = edits_chosen(session, "Edits", key="plane-edits", most=_MOST)
    last = session.model.info.n_layers - 1
    acts = [op.site.layer for edit in edits for op in session.load_edit(edit).operations() if isinstance(op, TransformAt)]
    start = next((layer for layer in acts if layer is not None), min(last, last // 2 + 1))
    layer = st.slider(
        "Layer", 0, last, start, key="plane-layer", persist_state="session",
        help="The residual stream behind it is turned towards the difference of the set's sides, and scaled.",
    )  # fmt: skip
    return None if chosen is None else DosePlaneSettings(chosen[0], layer, at_own_doses(session, edits))


def _begin(settings: DosePlaneSettings) -> None:
    jobs.start(PLANE, "Measuring the plane", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _draw(found: DosePlane) -> None:
    from workbench.figures.dose_plane import plane_figure

    meaning(words.markdown(found.sentence), "plane")
    if found.why:
        st.caption(found.why)
    some = [f"{one.label.label} moves {one.share:.0%} of the rows' tokens" for one in found.placed if 0 < one.share < 0.995]
    if some:
        st.caption("; ".join(some) + ": it stands where it takes those.")
    still = [one.label.label for one in found.placed if one.is_still]
    if still:
        st.caption(f"{', '.join(still)}: leaves the stream behind layer {found.layer} as it is, and acts later or elsewhere.")
    caption = words.provenance(model=found.model, data=found.data, split=found.split, n=found.n)
    figure_panel(
        plane_figure(found), found.table(), f"{caption} · damage on {found.source}", key="plane-figure",
        look_for="Warm colour inside the dashed line is gain that is safe; an edit far along a side pays for what it does not need.",
    )  # fmt: skip


def _nothing() -> None:
    frame.empty(
        "What turning and scaling gain and break will stand here, with edits where they lie.",
        "Choose a set, a layer and edits, then press *Measure the plane*.",
        key="plane",
    )
