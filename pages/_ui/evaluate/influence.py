"""Which demonstration did it, on a page: harmed rows with the demonstrations behind them, and the fit again without those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate.choosing import at_own_doses, set_chosen
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.lanes import known_edits
from pages._ui.kit.methods import method
from pages._ui.kit.state import state
from workbench.settings import InfluenceSettings, RefitSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.data.demonstrations import Demonstration, Demonstrations, Split
    from workbench.evaluate.influence import Influence, Refit
    from workbench.session import Session

INFLUENCE: jobs.Slot[InfluenceSettings, Influence] = jobs.Slot("influence")
AGAIN: jobs.Slot[RefitSettings, Refit] = jobs.Slot("refit-without")
_SPLITS: tuple[Split, ...] = ("validation", "test")
_FOREMOST = 8
"""Demonstrations that are ticked at first, at most: those that lower the mean score beyond chance."""
_ASKED = "influence-asked"
_FITS = (20, InfluenceSettings.n_refits, 80, 160)


def ask(edit: str, prompt: str = "", split: str = "") -> None:
    """Turn to this view for an edit that was fitted on the tab's set, with the row of a prompt chosen among those of a split."""
    now = st.session_state
    now["influence-edit"], now[_ASKED], now["evaluate-ask"] = edit, prompt, "Which did it"
    if split in _SPLITS:
        now[f"influence-split-{state().set_name}"] = split
    st.switch_page("pages/evaluate.py")


def blame(session: Session) -> None:
    """The set, an edit that was fitted on it, and what each of its demonstrations does to the rows that no fit has seen."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        if (picked := set_chosen(session, key="influence-set")) is None:
            return
        settings = _settings(session, *picked)
        if settings is not None:
            frame.act("Find which did it", _begin, settings, type="primary", key="influence-run", width="stretch")
            if asked := st.session_state.get(_ASKED):
                st.caption(f"Then the row “{words.plain(asked)}” is opened.")
    with picture:
        jobs.panel(INFLUENCE, lambda found: _draw(found, settings), settings=settings, nothing=_nothing)


def _settings(session: Session, chosen: str, rows: Demonstrations) -> InfluenceSettings | None:
    known = known_edits(session)
    data = {one.edit.id: one.edit.header.data for one in session.shelf.fitted()} | {item.id: item.data for item in session.edits()}
    mine = [edit for edit in known if rows.is_data_of(data[edit])]
    if not mine:
        st.caption("No edit at hand was fitted on this set as it is now. Fit one on *Edit*.")
        return None
    if st.session_state.get("influence-edit") not in mine:
        st.session_state["influence-edit"] = mine[0]
    edit = st.selectbox("Edit", mine, format_func=known.__getitem__, key="influence-edit")
    there = [one for one in _SPLITS if len(rows.split(one))]
    if not there:
        st.caption("No row of this set is marked validation or test.")
        return None
    if st.session_state.get(key := f"influence-split-{chosen}") not in there:
        st.session_state[key] = there[0]
    said = st.segmented_control(
        "Rows", there, key=key, required=True,
        help="Demonstrations that are dropped for what they do to test rows have been chosen on them: then no row is left to check on.",
    )  # fmt: skip
    split: Split = "test" if (said or there[0]) == "test" else "validation"
    lane, made = at_own_doses(session, [edit])[0], session.load_edit(edit).header.method
    return InfluenceSettings(lane, chosen, split, InfluenceSettings.n_refits if method(made).without else _fits())


def _fits() -> int:
    """How many fits are granted to a method without closed form."""
    offered = sorted(
        {*_FITS, st.session_state.get("influence-fits", InfluenceSettings.n_refits)}
    )  # a recorded run may have had another number
    fits = st.select_slider(
        "Fits at most", offered, InfluenceSettings.n_refits, key="influence-fits", persist_state="session",
        help="Each takes as long as the fit did. If they suffice, a method that trains is fitted once without each demonstration; "
        "else, and for other methods, fits are on random halves, and more of them say more.",
    )  # fmt: skip
    return int(fits)


def _begin(settings: InfluenceSettings) -> None:
    jobs.start(
        INFLUENCE,
        "Finding which demonstrations did it",
        lambda session, progress: session.run(settings, progress=progress),
        settings,
        heavy=True,
    )


def _draw(found: Influence, settings: InfluenceSettings | None) -> None:
    from workbench.figures.influence import influence_grid

    meaning(words.markdown(found.sentence), "influence")
    st.caption(_way(found))
    caption = words.provenance(model=found.model, edit=found.edit_id[:6], data=found.data, split=found.split, n=len(found.rows))
    figure_panel(
        influence_grid(found), found.victim_table(), caption, key="influence-grid",
        says=f"{found.title}: how much each row would lose without each demonstration. Blue ones take from it, vermilion ones give.",
        look_for="A blue column harms many rows: drop it. A blue cell in a row that is harmed is what harmed it.",
    )  # fmt: skip
    _row(found, settings)
    table_panel(found.table(), caption, key="influence-table")
    if settings is not None:
        _offer(found, settings)


def _row(found: Influence, settings: InfluenceSettings | None) -> None:
    """One of the rows, the harmed ones first, with the demonstrations that take most from it."""
    key, order = f"influence-row-{found.edit_id}-{found.split}", [*found.victims]
    if settings is not None and settings == jobs.settings_of(INFLUENCE) and (asked := st.session_state.pop(_ASKED, "")):
        mine = [j for j, row in enumerate(found.rows) if str(row.prompt) == asked]
        order += [j for j in mine if j not in order]
        if mine:
            st.session_state[key] = mine[0]
        else:
            st.caption(f"The row “{words.plain(asked)}” is not among these {len(found.rows)}: it is of another set or split.")
    if (kept := st.session_state.get(key)) is not None and kept not in order:
        order.append(kept)
    if not order:
        return
    row = st.selectbox("A harmed row", order, format_func=lambda j: _told(found, j), key=key, index=None, placeholder="Choose one")
    if row is None:
        return
    behind, change = found.behind(row, _FOREMOST), float(found.after[row] - found.before[row])
    taken = float(found.matrix[list(behind), row].sum())
    moved = "loses" if change < 0 else "gains"
    who = f"**{words.count(len(behind), 'demonstration')}** {'takes' if len(behind) == 1 else 'take'} {-taken:.2g} nats from it"
    meaning(f"It {moved} {abs(change):.2g} nats under the edit. {who if behind else 'No demonstration takes from it'}.", "influence-row")
    if not behind:
        return
    told = [(found.demonstrations[i], float(found.matrix[i, row])) for i in behind]
    st.dataframe([_said(one) | {"influence": value} for one, value in told], hide_index=True, width="stretch", key="influence-behind")
    st.button("Choose these to drop", key="influence-tick", on_click=_tick, args=(_dropping(found), [_name(one) for one, _ in told]))


def _told(found: Influence, j: int) -> str:
    return f"{words.plain(str(found.rows[j].prompt))}: {found.before[j]:.2f} → {found.after[j]:.2f}"


def _said(row: Demonstration) -> dict[str, object]:
    return {"id": row.id, "prompt": str(row.prompt), "positive": row.positive, "negative": row.negative}


def _name(row: Demonstration) -> str:
    return row.id or str(row.prompt)


def _dropping(found: Influence) -> str:
    return f"influence-drop-{found.edit_id}"


def _tick(key: str, names: Sequence[str]) -> None:
    st.session_state[key] = list(names)


def _way(found: Influence) -> str:
    if found.way == "closed form":
        return "In closed form: the fit without each demonstration, what it chose held, and scores to first order."
    if found.reliability is None:
        return (
            f"From {found.fits} fits, each without one demonstration, start and order of the others held: exact for this edit. A fit in "
            "another order has other influences (rank correlation of two orders over the mean: 0.94 on 24 shipped facts, 0.25 on 20 new "
            "facts, where it is chance), so check what is dropped by the refit below."
        )
    return f"From {found.fits} fits on halves; their two halves agree at a rank correlation of {found.reliability:.2f} (1: no noise)."


def _offer(found: Influence, settings: InfluenceSettings) -> None:
    names = {_name(row): f"{row.id} {row.prompt}".strip() for row in (found.demonstrations[i] for i in found.order)}
    key, first = _dropping(found), [found.demonstrations[i] for i in found.harmful[:_FOREMOST]]
    st.session_state.setdefault(key, [_name(row) for row in first])
    drop = st.multiselect("Demonstrations to drop", list(names), format_func=names.__getitem__, key=key)
    again = RefitSettings(settings.lane, settings.source, tuple(drop))
    frame.act("Drop these and refit", _refit, again, key="influence-refit", disabled=not drop)
    if found.split != "validation":
        st.caption("These rows choose what is dropped: a gain on them flatters.")
    jobs.panel(AGAIN, _draw_refit, settings=again)


def _refit(settings: RefitSettings) -> None:
    jobs.start(AGAIN, "Fitting without them", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True)


def _draw_refit(found: Refit) -> None:
    meaning(words.markdown(found.sentence), "refit-without")
    st.caption(f"The new fit is edit {found.edit.id[:6]}, among the edits at hand.")


def _nothing() -> None:
    frame.empty(
        "The rows that an edit harms will stand here, with the demonstrations behind each, and what a fit without those gives.",
        "Choose an edit, then press *Find which did it*.",
        key="influence",
    )
