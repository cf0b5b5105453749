"""Edit: where a set's sides differ and a small push moves the model, and layers to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel
from workbench.data.demonstrations import Demonstrations

if TYPE_CHECKING:
    from workbench.lenses.locate import Located
    from workbench.methods.registry import Method
    from workbench.progress import Progress
    from workbench.session import Session

# Its settings are the fingerprint of the set.
WHERE: jobs.Slot[str, Located] = jobs.Slot("where")


def panel(demonstrations: Demonstrations, known: Method) -> None:
    """All layers at once: how well each tells the sides apart, what a push there does, and a button that takes the best."""
    with st.expander("Where is it?", key="where"):
        frame.act("Look at all layers", _run, demonstrations, key="where-run", disabled=not len(demonstrations))
        jobs.panel(
            WHERE, lambda found: _draw(found, known), settings=demonstrations.fingerprint,
            nothing=lambda: st.caption("One pass of the model shows at which layer both sides differ, and where a small push moves it."),
        )  # fmt: skip


def _run(demonstrations: Demonstrations) -> None:
    def work(session: Session, progress: Progress) -> Located:
        return session.look("locate", demonstrations, progress=progress)

    jobs.start(WHERE, "Looking at all layers", work, demonstrations.fingerprint)


def _draw(found: Located, known: Method) -> None:
    from workbench.figures.location import location
    from workbench.methods.registry import Scope

    layer, _ = found.best
    told = words.provenance(model=found.model, edit="", seed=0, data=f"data {found.data}, {found.n_fit} texts fit, {found.n_held} held out")
    figure_panel(
        location(found), found.rows(), told, key="where-figure", says=found.says,
        look_for="A line above the grey band. Effects are of first order; the choice by validation measures them.",
    )  # fmt: skip
    knobs = known.scopes(Scope(layers=(layer,)))
    if knobs and found.is_found:
        frame.act("Use these", scope.hand_knobs, known.name, knobs, f"where it is: layer {layer}", key="where-use")
