"""Demonstrations: whether there are enough, by how well held-out rows are told apart by ever more pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from workbench.data.demonstrations import Demonstrations

if TYPE_CHECKING:
    from workbench.lenses.enough import EnoughPairs
    from workbench.progress import Progress
    from workbench.session import Session

# Its settings are the fingerprint of the set and the layer.
ENOUGH: jobs.Slot[tuple[str, int | None], EnoughPairs] = jobs.Slot("enough")


def panel(demonstrations: Demonstrations) -> None:
    """The curve by the number of pairs, at the layer that the picture above shows."""
    layer = st.session_state.get("geometry-layer")
    settings = demonstrations.fingerprint, layer if isinstance(layer, int) else None
    frame.act("Try fewer of them", _run, demonstrations, settings, key="enough-run", disabled=not len(demonstrations))
    jobs.panel(
        ENOUGH, _draw, settings=settings,
        nothing=lambda: frame.empty(
            "How well held-out rows are told apart by 5, 10, 20 … of the pairs will stand here.", "Press *Try fewer of them*.", key="enough"
        ),
    )  # fmt: skip


def _run(demonstrations: Demonstrations, settings: tuple[str, int | None]) -> None:
    def work(session: Session, progress: Progress) -> EnoughPairs:
        return session.look("enough_pairs", demonstrations, layer=settings[1], progress=progress)

    jobs.start(ENOUGH, "Trying fewer pairs", work, settings)


def _draw(found: EnoughPairs) -> None:
    from workbench.figures.geometry import enough_curve

    where = words.provenance(model=found.model, data=found.data, n=f"{found.n_held} held-out rows a side", site=f"layer {found.layer}")
    last = found.auc[-1]
    says = f"With all {found.sizes[-1]} pairs the AUC is {last.told('.2f')}: "
    says += "the last step added nothing that can be seen, so more pairs of this kind are unlikely to help." if found.is_flat else (
        "it still rises, so more pairs are likely to help."
        if found.auc[-1].estimate > found.auc[-2].estimate
        else "it does not rise steadily; look at the rows before adding more."
    ) if len(found.sizes) > 1 else "there are too few for a smaller try."  # fmt: skip
    figure_panel(
        enough_curve(found), found.rows(), where, key="enough-curve", says=words.plain(says),
        look_for="Where the curve turns flat. Bars join two things: which pairs were drawn, and which rows are held out.",
    )  # fmt: skip
