"""Spectra: what an edit moves, one picture a question, each beside a random edit of its size: layers, directions, answers, weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.layers import layer_choice

if TYPE_CHECKING:
    from workbench.lenses.edit_moves import EditMoves
    from workbench.lenses.weight_moves import WeightMoves
    from workbench.progress import Progress
    from workbench.session import Session


@dataclass(frozen=True)
class Moves:
    """What an edit does to the stream on its demonstrations, and what it adds to weights; `edit` is its id."""

    edit: str
    stream: EditMoves
    weights: WeightMoves


MOVES: jobs.Slot[str, Moves] = jobs.Slot("moves")
"""Its settings are the edit."""
OTHER: jobs.Slot[str, Moves] = jobs.Slot("moves-other")


def panel(session: Session, edit: str, *, at: int) -> None:
    """The pictures of one edit, `at` being 0 or 1 of the edits on the page; they are made when asked for, on the rows of its fit."""
    slot = (MOVES, OTHER)[at]
    st.subheader("What it moves", anchor=False)
    frame.act("Look at what it moves", _begin, slot, edit, key=f"{slot.name}-run")
    jobs.panel(
        slot, lambda found: _draw(found, slot.name), settings=edit,
        nothing=lambda: frame.empty(
            "How far and at which angle each layer is moved, along which directions, what these say, and where held-out answers go will "
            "stand here, each beside a random edit of equal size.",
            "Press *Look at what it moves*.", key=slot.name,
        ),
    )  # fmt: skip


def _begin(slot: jobs.Slot[str, Moves], edit: str) -> None:
    def work(session: Session, progress: Progress) -> Moves:
        from workbench.lenses.edit_moves import edit_moves
        from workbench.lenses.weight_moves import weight_moves
        from workbench.workspace.rendering import as_read
        from workbench.workspace.story import edit_story, source_of

        story = edit_story(session.shelf, session.workspace, edit)
        rows = as_read(session.model, session.demos.resolve(source_of(story, session.demos)), None, "", [story.edit])
        mine = story.edit if story.edit.dose else story.edit.dosed(1.0)
        stream = edit_moves(session.model, mine, rows, progress=progress.part(0.0, 0.7))
        return Moves(edit, stream, weight_moves(session.model, mine, progress=progress.part(0.7, 1.0)))

    jobs.start(slot, "Looking at what it moves", work, edit)


def _draw(found: Moves, key: str) -> None:
    stream = found.stream
    where = words.provenance(
        model=stream.model, edit=found.edit[:6], data=stream.data, split=stream.split, n=words.count(len(stream.is_good), "answer")
    )
    names = ["Layers", "Directions", "Answers", *(["Weights"] if found.weights.moves else [])]
    tabs = dict(zip(names, st.tabs(names)))
    with tabs["Layers"]:
        _layers(stream, where, key)
    if stream.moved:
        with tabs["Directions"]:
            _directions(stream, where, key)
        with tabs["Answers"]:
            _answers(stream, where, key)
    if "Weights" in tabs:
        with tabs["Weights"]:
            _weights(found.weights, where, key)


def _layers(found: EditMoves, where: str, key: str) -> None:
    from workbench.figures.moves import layers_moved

    at = found.layers.index(found.strongest)
    size, angle, random = found.sizes[0, at], found.angles[0, at], found.angles[1, at]
    figure_panel(
        layers_moved(found), found.rows(), where, key=f"{key}-layers",
        says=f"Layer {found.strongest} is moved most: by {size:.1%} of its length, turned by {angle:.1f}° (a random edit of its size: "
        f"{random:.1f}°).",
        look_for="Where it begins, and whether later layers carry it on, undo it, or add to it. Where the lines lie together, size is all.",
    )  # fmt: skip


def _directions(found: EditMoves, where: str, key: str) -> None:
    from workbench.figures.moves import direction_rows, direction_shares

    layer = layer_choice([one.layer for one in found.moved], f"{key}-directions-layer")
    one, rows = found.at(layer), direction_rows(found, layer)
    first = one.directions[0]
    says = (
        f"Layer {layer}: the first direction holds {first.share:.0%} of the move (a random edit's: {one.random_shares[0]:.0%}), and says "
    )
    figure_panel(
        direction_shares(found, layer), rows, where, key=f"{key}-directions",
        says=says + words.plain(words.listed([words.token(token) for token in first.promotes[:3]])) + ".",
        look_for="One tall bar: the edit pushes every text the same way. A flat row at the grey line: it does something else to each.",
    )  # fmt: skip
    chosen = st.segmented_control("Direction", range(len(rows)), default=0, format_func=lambda i: str(i + 1), key=f"{key}-direction")
    told = one.directions[chosen or 0]
    left, right = st.columns(2)
    for column, title, texts in ((left, "Farthest along it", told.most), (right, "Farthest against it", told.least)):
        with column:
            st.caption(title)
            for text in texts:
                st.text(text)


def _answers(found: EditMoves, where: str, key: str) -> None:
    from workbench.figures.moves import sides_moved

    layer = layer_choice([one.layer for one in found.moved], f"{key}-answers-layer")
    one = found.at(layer)
    rows = [
        {
            "answer": "good" if good else "bad",
            "before, 1": a[0],
            "before, 2": a[1],
            "after, 1": b[0],
            "after, 2": b[1],
            "random, 1": c[0],
            "random, 2": c[1],
        }
        for good, a, b, c in zip(found.is_good.tolist(), one.before.tolist(), one.after.tolist(), one.random.tolist())
    ]
    figure_panel(
        sides_moved(found, layer), rows, where, key=f"{key}-answers",
        look_for="Bad answers (crosses) that come to lie among the good ones: the edit takes them over. Both sides moved alike: it pushes "
        "everything. Grey marks are where chance would put them.",
    )  # fmt: skip


def _weights(found: WeightMoves, where: str, key: str) -> None:
    from workbench.figures.moves import weight_spectrum, weights_moved

    left, right = st.columns(2, gap="large")
    largest = max(found.moves, key=lambda one: one.size)
    with left:
        figure_panel(
            weights_moved(found), found.rows(), where, key=f"{key}-weights",
            says=f"{largest.site} changes most, by {largest.size:.2%} of its size.",
            look_for="One long bar: that matrix carries the edit. Bars of one length: it is spread over all of them.",
        )  # fmt: skip
    with right:
        names = [one.site for one in found.moves]
        one = found.moves[names.index(st.selectbox("Weight", names, index=names.index(largest.site), key=f"{key}-weight"))]
        rows = [{"direction": i, "edit": float(a), "random": float(b)} for i, (a, b) in enumerate(zip(one.values, one.random), 1)]
        figure_panel(
            weight_spectrum(one), rows, where, key=f"{key}-spectrum",
            says=f"It takes about {one.rank:.1f} directions; a random matrix of its rank and size {one.random_rank:.1f}.",
            look_for="A curve that falls far faster than the grey one: few directions carry the change, and a smaller rank would do.",
        )  # fmt: skip
