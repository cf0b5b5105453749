"""Compare: one edit at several places: what each gains on held-out rows and breaks on the model's own answers, and which to use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import placing
from pages._ui.demonstrations import sets
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.lanes import known_edits
from pages._ui.kit.rows import rows_of
from pages._ui.kit.state import state
from workbench.edits.lane import Lane
from workbench.settings import EvaluateSettings

if TYPE_CHECKING:
    from workbench.evaluate.places import PlaceMap
    from workbench.progress import Progress
    from workbench.session import Session

SECONDS = 30.0
MAP: jobs.Slot[EvaluateSettings, PlaceMap] = jobs.Slot("places")


def place_map(session: Session, lanes: Sequence[Lane]) -> None:
    """The map of one lane's edit; a button takes the place that it recommends."""
    mine = [lane for lane in lanes if len(lane.edits) == 1 and lane.prompting is None]
    if not mine:
        return
    known = known_edits(session)
    with st.expander("Place map: one edit at several places"):
        lane = mine[st.selectbox("Edit", range(len(mine)), format_func=lambda at: known[mine[at].keys[0]], key="places-edit")]
        chosen = sets.picker(session, key="places-set")
        if chosen is None:
            return
        wanted = _wanted(session, lane, chosen)
        if wanted is None:
            return
        frame.act("Measure the places", _begin, wanted, key="places-run")
        jobs.panel(
            MAP, lambda found: _draw(found, lane), settings=wanted,
            nothing=lambda: st.caption("On the prompt, on the answer, or on its first tokens: each place is scored on held-out rows beside "
                "a random edit of equal size at the same place."),
        )  # fmt: skip


def _wanted(session: Session, lane: Lane, chosen: str) -> EvaluateSettings | None:
    """The evaluation behind the map; None where the set is damaged, which the picker says."""
    from workbench.evaluate.places import compared_places  # imports torch, which the page has by now
    from workbench.workspace.rendering import goes_as_chat

    rows = rows_of(session, chosen)
    if rows is None:
        return None
    edit = session.load_edit(lane.keys[0])
    where = compared_places(session.model, is_chat=goes_as_chat(session.model, rows, [edit]))
    return EvaluateSettings((lane.acting(""),) * len(where), chosen, n_placebos=1, n_generations=0, seconds=SECONDS, where=where)


def _begin(wanted: EvaluateSettings) -> None:
    def work(session: Session, progress: Progress) -> PlaceMap:
        from workbench.evaluate.places import place_map as read

        return read(session.run(wanted, progress=progress), wanted.where)

    jobs.start(MAP, "Measuring places", work, wanted, heavy=True)


def _draw(found: PlaceMap, lane: Lane) -> None:
    from workbench.figures.places import places

    meaning(words.markdown(found.sentence), "places")
    told = words.provenance(model=found.model, data=found.data, n=found.n, split=found.split)
    figure_panel(
        places(found), found.rows(), told, key="places-figure",
        look_for="At the left, what is gained (dotted: untouched); at the right, what is broken. The star is the place to use: no other "
        "gains more beyond chance, and it breaks least. A place at its grey ring does what noise does.",
    )  # fmt: skip
    if found.best is not None and lane in state().lanes:
        rule, label = found.places[found.best].rule, found.places[found.best].label
        st.button(
            f"Let it act there: {words.plain(label[0].lower() + label[1:])}", key="places-use", disabled=rule == placing.place_of(lane),
            on_click=placing.put, args=(state().lanes.index(lane), rule),
        )  # fmt: skip
