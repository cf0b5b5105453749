"""Which edit makes the model prefer my positives?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.edit import cards, copy_as, fits, fitting, methods, used, where
from pages._ui.kit import frame, jobs
from pages._ui.kit.backend import ready
from pages._ui.kit.methods import method, obstacles
from pages._ui.kit.reading import Form
from pages._ui.kit.rows import rows_of
from pages._ui.kit.state import part

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """Set and method on top, the form beside the picture."""
    chosen = sets.picker(session, key="edit-set")
    if chosen is None:
        frame.empty("An edit is fitted on demonstrations, and there are none yet.", "Open a set first.", key="no-set")
        st.page_link("pages/demonstrations.py", label="Open Demonstrations", icon=":material/table_rows:")
        return
    fits.take_choice()
    demonstrations = rows_of(session, chosen)
    if demonstrations is None:
        return
    name = cards.cards(session, demonstrations)
    known = method(name)
    blocked = obstacles(session, demonstrations)[name]
    texts = st.container()
    form, picture = st.columns([1, 2], gap="large")
    with form:
        said = methods.form(session, known)
        chat, system = methods.as_chat(session, demonstrations)
        rivals = methods.rivals(chosen)
        settings = fitting.fit_settings(
            chosen, demonstrations, name, said.values, said.seed, said.dose, chat, rivals, system, said.place
        )  # fmt: skip
        problem = fitting.knob_problem(known, said.values)
        if problem is not None:
            frame.problem(problem, "knobs")
        stuck = bool(blocked) or problem is not None
        frame.act("Fit edit", fits.begin, settings, type="primary", key="fit", width="stretch", disabled=stuck)
        at = None if stuck else methods.fitted(session, known, said.values)
        where.panel(demonstrations, known, at, chat)
        fits.by_validation(session, demonstrations, settings, blocked=stuck)
    with texts:
        copy_as.panel(session, settings)
    part(Form).said = settings
    fits.presets_side_by_side(known, settings, blocked=bool(blocked))
    with picture:
        jobs.panel(fitting.FIT, fits.draw, settings=settings, nothing=_nothing, live=fits.live)
        if not blocked:
            used.panel(session, demonstrations, known, settings, at, is_readable=problem is None)


def _nothing() -> None:
    frame.empty(
        "The fit will stand here: its spectrum or its search while it runs, then in words what it did to held-out questions, beside "
        "a placebo of equal size.",
        "Press *Fit edit*. On the embedded model it takes seconds.",
        key="fit",
    )


frame.page("Edit", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
