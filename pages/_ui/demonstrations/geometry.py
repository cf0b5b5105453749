"""Demonstrations: where both sides lie inside the model, and rows picked from the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import beside, enough, sets
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel, selected
from pages._ui.kit.layers import layer_choice
from pages._ui.kit.rows import Editor
from pages._ui.kit.state import part
from workbench.data.demonstrations import SPLITS, Demonstration, Demonstrations, Split

if TYPE_CHECKING:
    from workbench.lenses.geometry import DemonstrationGeometry
    from workbench.progress import Progress
    from workbench.session import Session

# Its settings are the fingerprint of the set.
GEOMETRY: jobs.Slot[str, DemonstrationGeometry] = jobs.Slot("geometry")


@dataclass
class Choice:
    """Rows picked in the picture of the set with this fingerprint; `turn` counts the choices that were forgotten."""

    data: str = ""
    rows: tuple[int, ...] = ()
    turn: int = 0


def plot_key() -> str:
    """The picture's key; a choice that is forgotten takes its picture with it, since the browser holds the choice too."""
    return f"geometry-points-{part(Choice).turn}"


def picked_rows(demonstrations: Demonstrations) -> tuple[int, ...]:
    """The rows picked in the picture, as long as the set is the one that the picture shows."""
    if jobs.settings_of(GEOMETRY) != demonstrations.fingerprint:
        return ()
    now = tuple(row for row in selected(plot_key()) if row < len(demonstrations))
    # Plotly forgets its selection when the picture changes; the tab does not.
    choice = part(Choice)
    if now:
        choice.data, choice.rows = demonstrations.fingerprint, now
    return choice.rows if choice.data == demonstrations.fingerprint else ()


def panel(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None, ringed: int | None) -> None:
    """The projection beside the separation by layer; below, what can be done with the rows picked of this version."""
    st.header("Where both sides lie inside the model", anchor=False)
    settings = demonstrations.fingerprint
    frame.act("Read the activations", _run, demonstrations, key="geometry-run", disabled=not len(demonstrations))
    jobs.panel(
        GEOMETRY, lambda found: _draw(found, ringed, _words_alone(session, demonstrations)), settings=settings,
        nothing=lambda: frame.empty(
            "A point for each answer will stand here, both sides in their colours, at the layer you choose.",
            "Press *Read the activations*.", key="geometry",
        ),
    )  # fmt: skip
    _verbs(session, chosen, demonstrations, version, picked_rows(demonstrations))
    with st.expander("Are these enough?"):
        enough.panel(demonstrations)


def _run(demonstrations: Demonstrations) -> None:
    def work(session: Session, progress: Progress) -> DemonstrationGeometry:
        return session.look("demonstration_geometry", demonstrations, progress=progress)

    jobs.start(GEOMETRY, "Reading activations", work, demonstrations.fingerprint)


def _words_alone(session: Session, demonstrations: Demonstrations) -> float | None:
    """How well a bag of the answers' words tells the sides apart, as the checks found it; None where they could not say."""
    return next((check.value for check in beside.found_now(session, demonstrations) if check.name == "words"), None)


def _draw(found: DemonstrationGeometry, ringed: int | None, alone: float | None) -> None:
    from workbench.figures.geometry import projection, separation

    n_held = sum(found.held)
    n = f"{len(found.held) - n_held} points fit, {n_held} held out"
    where = words.provenance(model=found.model, data=found.data, n=n, site="last token")
    left, right = st.columns([3, 2], gap="large")
    with left:
        layer = layer_choice(found.layers, "geometry-layer")
        ring = frozenset(() if ringed is None else (ringed,))
        figure_panel(
            projection(found, layer, ring), found.table(layer), where, key=plot_key(), selects=True,
            look_for="Two clouds side by side: the sides differ there, and an edit has something to hold on to. Faint marks drew the axis; "
            "only the full ones, held out, show whether it is real. Draw a lasso round odd points to see their rows.",
        )  # fmt: skip
    with right:
        if found.withheld:
            frame.empty("How well held-out rows are told apart will stand here.", f"Withheld: {found.withheld}", key="geometry-auc")
            return
        at = found.layers.index(layer)
        random = f"random directions {found.random_auc[at]:.2f} on average, p = {words.number(found.p_values[at])}"
        says = f"Layer {layer}: AUC {found.auc[at]}; {random}."
        says += "" if alone is None else f" The answers' words alone, without the model: {alone:.2f}."
        figure_panel(
            separation(found, alone), found.rows(), where, key="geometry-separation", says=words.plain(says),
            look_for="The layer from which on the line leaves the grey one. No higher than the line of the words alone: the answers' own "
            "words tell the sides apart, before the model has made anything of them. High for random directions too: something plain does.",
        )  # fmt: skip


def _verbs(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None, rows: tuple[int, ...]) -> None:
    if not rows:
        return
    with st.container(border=True, key="geometry-rows"):
        st.markdown(f"**{words.count(len(rows), 'row')} picked**")
        names = ("prompt", "positive", "negative", "label", "split")
        table = [{"row": i + 1} | {name: getattr(demonstrations[i], name) for name in names} for i in rows]
        st.dataframe(table, hide_index=True, width="stretch", height=min(240, 60 + 36 * len(rows)), key="geometry-table")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            split = st.selectbox("Split", SPLITS, index=2, key="geometry-split", width=160)
            of = Picked(session, chosen, demonstrations, version, rows)
            st.button("Move there", key="geometry-move", on_click=_move, args=(of, split))
            st.button("Take out of the set", key="geometry-drop", on_click=_drop, args=(of,))
            st.button("Forget the choice", key="geometry-forget", type="tertiary", on_click=_forget)


@dataclass(frozen=True)
class Picked:
    """Rows, by their places in a version of a set."""

    session: Session
    set: str
    demonstrations: Demonstrations
    version: int | None
    rows: tuple[int, ...]


def _move(of: Picked, split: Split) -> None:
    _save(of, [replace(row, split=split) if i in of.rows else row for i, row in enumerate(of.demonstrations)])


def _drop(of: Picked) -> None:
    _save(of, [row for i, row in enumerate(of.demonstrations) if i not in of.rows])


def _save(of: Picked, changed: Sequence[Demonstration]) -> None:
    """A version on disk; the table is drawn anew, and the choice is over, since places have changed."""
    sets.save_changes(of.session, of.set, of.demonstrations.with_rows(changed), of.version)
    part(Editor).restart()
    _forget()


def _forget() -> None:
    choice = part(Choice)
    choice.data, choice.rows, choice.turn = "", (), choice.turn + 1
