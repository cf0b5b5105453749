"""Edit, before fitting: where a set's sides differ and a small push moves the model, and what to expect of the method there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.glossary import tip
from workbench.data.demonstrations import Demonstrations

if TYPE_CHECKING:
    from workbench.lenses.locate import Located
    from workbench.methods.registry import Method
    from workbench.methods.shared.reading import FittedAt
    from workbench.progress import Progress
    from workbench.session import Session

# Its settings are the fingerprint of the set, and whether it is read as chat.
WHERE: jobs.Slot[tuple[str, bool | None], Located] = jobs.Slot("where")


def panel(demonstrations: Demonstrations, known: Method, fitted: FittedAt | None, chat: bool | None) -> None:
    """All layers at once: how well each tells the sides apart, what a push there does, and a button that takes the best.

    Args:
        fitted: where the method will be, as far as that is known. chat: how a fit reads the set.
    """
    with st.expander("Before fitting: where is it, and how reliable?", key="where"):
        frame.act("Look at all layers", _run, demonstrations, chat, key="where-run", disabled=not len(demonstrations))
        jobs.panel(
            WHERE, lambda found: _draw(found, known, fitted), settings=(demonstrations.fingerprint, chat),
            nothing=lambda: st.caption("One pass of the model foretells at which layer both sides differ, whether one direction can "
                "serve all pairs, and whether it touches refusals."),
        )  # fmt: skip


def _run(demonstrations: Demonstrations, chat: bool | None) -> None:
    def work(session: Session, progress: Progress) -> Located:
        from workbench.workspace.rendering import as_read

        return session.look("locate", as_read(session.model, demonstrations, chat), progress=progress)

    jobs.start(WHERE, "Looking at all layers", work, (demonstrations.fingerprint, chat))


def _draw(found: Located, known: Method, fitted: FittedAt | None) -> None:
    from workbench.figures.location import location
    from workbench.knobs import knobs as knobs_of
    from workbench.methods.registry import Scope

    layer, reading = found.best
    own, own_detail = found.foretold(known.title, fitted)
    for i, (says, detail) in enumerate(((own, own_detail), (found.says, found.detail))):
        if says and (not i or not own or fitted is None or fitted.layers != (layer,)):
            meaning(says, f"where-{i}")
            st.caption(words.markdown(detail), help=tip(detail))
    told = words.provenance(model=found.model, edit="", seed=0, data=f"data {found.data}, {found.n_fit} texts fit, {found.n_held} held out")
    figure_panel(
        location(found), found.rows(), told, key="where-figure",
        look_for="A line above the grey band. Effects are of first order; the choice by validation measures them.",
    )  # fmt: skip
    knobs = dict(known.scopes(Scope(layers=(layer,))))
    if any(item.name == "read" and reading in (item.choices or ()) for item in knobs_of(known.config)):
        knobs["read"] = reading
    if knobs and found.is_found:
        frame.act("Use these", scope.hand_knobs, known.name, knobs, f"where it is: layer {layer}, read from {reading}", key="where-use")
