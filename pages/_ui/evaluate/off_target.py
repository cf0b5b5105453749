"""Off target, on a page: edits against sets beside random edits of their size, protected sets, and what two edits do to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate.choosing import at_own_doses, edits_chosen
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import table_panel
from pages._ui.kit.frame import meaning
from workbench.settings import OffTargetSettings

if TYPE_CHECKING:
    from workbench.evaluate.off_target import OffTarget
    from workbench.session import Session

OFF_TARGET: jobs.Slot[OffTargetSettings, OffTarget] = jobs.Slot("off-target")
_MOST = 4


def spread(session: Session) -> None:
    """Edits, sets and protected sets beside what each edit does to each set."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        settings = _settings(session)
        nothing = not settings.lanes or not (settings.sources or settings.protected)
        if not nothing:
            _cost(session, settings)
        frame.act("Measure off target", _begin, settings, type="primary", key="off-target-run", disabled=nothing, width="stretch")
    with picture:
        jobs.panel(OFF_TARGET, _draw, settings=settings, nothing=_nothing)


def _settings(session: Session) -> OffTargetSettings:
    offers = {offer.id: offer.title for offer in session.demo_sets()}
    for key in ("off-target-sets", "off-target-kept"):
        st.session_state[key] = [one for one in st.session_state.get(key, []) if one in offers]
    edits = edits_chosen(session, "Edits", key="off-target-edits", most=_MOST)
    sets = st.multiselect("Sets", list(offers), format_func=offers.__getitem__, key="off-target-sets")
    kept = st.multiselect(
        "Protected sets", list(offers), format_func=offers.__getitem__, key="off-target-kept",
        help="What no edit may make worse, such as facts and refusals.",
    )  # fmt: skip
    stacks = st.toggle("Pairs of edits too", len(edits) > 1, key="off-target-stacks", disabled=len(edits) < 2)
    return OffTargetSettings(
        at_own_doses(session, edits), tuple(one for one in sets if one not in kept), tuple(kept), stacks=stacks and len(edits) > 1
    )


def _cost(session: Session, settings: OffTargetSettings) -> None:
    """Say before the click how much is scored."""
    sets = [session.demos.resolve(one) for one in (*settings.sources, *settings.protected)]
    n, n_edits = sum(len(rows.split(settings.split) if settings.split else rows) for rows in sets), len(settings.lanes)
    told = "the model alone, each edit and a random edit of its size"
    n_lanes = 1 + 2 * n_edits
    if settings.stacks:
        n_lanes, told = n_lanes + n_edits * (n_edits - 1), f"{told}, and each pair in both orders"
    st.caption(f"Scores {words.count(n, 'row')} under {n_lanes} lanes each: {told}.")


def _begin(settings: OffTargetSettings) -> None:
    jobs.start(OFF_TARGET, "Measuring off target", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _draw(found: OffTarget) -> None:
    meaning(words.markdown(found.sentence), "off-target")
    caption = words.provenance(model=found.model, data=", ".join(dict.fromkeys(cell.data for cell in found.cells)), split=found.split)
    table_panel(found.table(), caption, key="off-target-cells")
    if found.interactions:
        st.markdown("**Two edits together**: the stack's change less both single changes, in either order; *foretold* is by slopes alone.")
        table_panel(found.stack_table(), caption, key="off-target-stacks-table")


def _nothing() -> None:
    frame.empty(
        "What each edit does to sets that it is not about will stand here, beside a random edit of its size.",
        "Choose edits and sets, then press *Measure off target*.",
        key="off-target",
    )
