"""Inspect: what the edit did to the target, by layer and by head, and how much of it by looking elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.head_cells import head_grid
from pages._ui.inspect.lane import lane_choice
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.edit_effect import EditEffect
    from workbench.progress import Progress
    from workbench.session import Session

# How a cell of the heads is coloured: its words, and what it says.
_WAYS = {
    "all": ("All of it", "what the head adds more than in the base"),
    "kept": ("Looking as before", "the same with every head held to where it looks in the base"),
    "moved": ("By looking elsewhere", "what goes once every head is held to where it looks in the base"),
}
EFFECT: jobs.Slot[Asked, EditEffect] = jobs.Slot("edit-effect")


@dataclass(frozen=True)
class Asked:
    """A prompt with its targets, and the lanes whose edits are taken apart."""

    prompt: Prompt
    targets: tuple[str, ...]
    lanes: Lanes


def edit_effect(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Take apart what the edits that are on change of the target."""
    if blocked(session, "edit_effect"):
        return
    lanes = lanes_on()
    if not lanes:
        what = "What an edit changes will stand here: layer by layer, head by head, and how much of it because heads look elsewhere."
        frame.empty(what, "Turn an edit on, in the bar at the side or on *Library*.", key="edit-effect-none")
        return
    settings = Asked(prompt, targets, lanes)
    frame.act("Take the change apart", _run, settings, type="primary", key="edit-effect-run")
    jobs.panel(
        EFFECT, _draw, settings=settings,
        nothing=lambda: frame.empty(
            "A bar for each layer's attention and MLP will stand here, and a cell a head: what the edit changes of the target there.",
            "Press *Take the change apart*.", key="edit-effect",
        ),
    )  # fmt: skip


def _run(settings: Asked) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> EditEffect:
        return session.look("edit_effect", settings.prompt, *settings.targets[:2], stacks=stacks, progress=progress)

    jobs.start(EFFECT, "Taking an edit's effect apart", work, settings)


def _draw(found: EditEffect) -> None:
    from workbench.figures.attribution import component_word
    from workbench.figures.edit_effect import effect_bars

    lane = lane_choice(found.lanes, "edit-effect-lane")
    free, kept = (float(x) - found.before for x in found.after[lane])
    where = words.provenance(model=found.model, n="1 prompt", where="last token", lane=found.lanes[lane].label)
    rows = [{**row, "part": component_word(row["part"])} for row in found.rows() if row["lane"] == found.lanes[lane].label]
    says = (
        f"From {words.number(found.before)} to {words.number(found.before + free)}: {words.number(kept)} with every head looking where it "
    )
    says += f"looked before, {words.number(free - kept)} by looking elsewhere."
    left, right = st.columns(2, gap="large")
    with left:
        figure_panel(
            effect_bars(found, lane), rows, where, key="edit-effect-bars", says=says,
            look_for="Bars of one layer: the edit works there. Bars of all later ones: they read what it wrote. "
            "The last but one is what the edit itself adds to the stream.",
        )  # fmt: skip
    with right:
        _heads(found, lane)


def _heads(found: EditEffect, lane: int) -> None:
    way = st.segmented_control(
        "Colour the heads by", list(_WAYS), format_func=lambda name: _WAYS[name][0], default="all", key="edit-effect-way", required=True
    )
    way = way or "all"
    free, kept = found.heads[lane]
    table = {"all": free, "kept": kept, "moved": free - kept}[way]
    values = [[float(x) for x in line] for line in table]
    st.caption(f"Cell: {_WAYS[way][1]}. Vermilion is for the target.")
    picked = head_grid(values, key="edit-effect-grid", scale=max(1e-9, float(abs(found.heads[lane]).max())), signed=True)
    layer, head = picked or found.strongest(1, lane)[0][:2]
    with st.container(border=True, key="drawer-edit-effect"):
        told = f"{words.number(float(free[layer, head]))}, of it {words.number(float(kept[layer, head]))} looking as before"
        st.markdown(f"**Head {layer}.{head}**: {told}.")
        scope.verbs(layer, head, key="edit-effect-scope")
