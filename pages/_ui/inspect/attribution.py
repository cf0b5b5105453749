"""Inspect: direct attribution, who says target rather than distractor, by component and by head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect.edit_effect import edit_effect
from pages._ui.inspect.head_cells import head_grid
from pages._ui.inspect.lane import lane_or_change
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.attribution import DirectAttribution
    from workbench.progress import Progress
    from workbench.session import Session

_UNITS = {"component": "Layers", "head": "Heads", "edit": "What the edit did"}
_LOOK = "A long bar is a component that writes the answer itself. One that only helps others to write it does not show here: see Patching."
# By components and by heads.
ATTRIBUTION: jobs.Slot[TakenApart, Mapping[str, DirectAttribution]] = jobs.Slot("attribution")


@dataclass(frozen=True)
class TakenApart:
    """A prompt whose last logits are taken apart, for a target and perhaps against a distractor, in each lane."""

    prompt: Prompt
    targets: tuple[str, ...]
    lanes: Lanes


def attribution(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Take the last token's logits apart into what each component wrote."""
    settings = TakenApart(prompt, targets, lanes_on())
    with st.container(horizontal=True, vertical_alignment="center"):
        unit = st.segmented_control(
            "By", list(_UNITS), format_func=_UNITS.__getitem__, default="component", key="attribution-unit", required=True,
            label_visibility="collapsed",
        )  # fmt: skip
        if unit != "edit":
            frame.act("Take it apart", _run, settings, type="primary", key="attribution-run", disabled=not targets)
    if not targets:
        frame.empty("What each component says for the target will stand here.", "Write a target above.", key="attribution-target")
        return
    if unit == "edit":
        edit_effect(session, prompt, targets)
        return
    jobs.panel(
        ATTRIBUTION, lambda found: _draw(found, unit or "component"), settings=settings,
        nothing=lambda: frame.empty(
            "A bar for each layer's attention and MLP will stand here, or a cell a head: how far it pushes the target.",
            "Press *Take it apart*.", key="attribution",
        ),
    )  # fmt: skip


def _run(settings: TakenApart) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> Mapping[str, DirectAttribution]:
        parts = [("component", progress.part(0.0, 0.5)), ("head", progress.part(0.5, 1.0))]
        asked = (settings.prompt, *settings.targets[:2])
        return {unit: session.look("direct_attribution", *asked, stacks=stacks, unit=unit, progress=p) for unit, p in parts}

    jobs.start(ATTRIBUTION, "Direct attribution", work, settings)


def _draw(both: Mapping[str, DirectAttribution], unit: str) -> None:
    found = both[unit]
    where = words.provenance(model=found.model, n="1 prompt", where="last token", lanes=" and ".join(lane.label for lane in found.lanes))
    (_heads if unit == "head" else _components)(found, where)


def _components(found: DirectAttribution, where: str) -> None:
    from workbench.figures.attribution import by_layer, component_bars, component_word

    rows = [{**row, "component": component_word(row["component"])} for row in found.rows()]
    best = max(range(len(found.labels) - 1), key=lambda j: abs(found.values[0, j]))
    total, value = float(found.difference[0]), float(found.values[0, best])
    name = component_word(found.labels[best])
    says = f"The largest part is {words.number(value)} by {name}, of {words.number(total)} in all."
    figure_panel(component_bars(found), rows, where, key="attribution-bars", says=says, look_for=_LOOK)
    at = component_layer(found.labels[best])
    if at is not None:
        scope.verbs(at, key="attribution-scope")
    with st.expander("The sum, component after component"):
        figure_panel(
            by_layer(found), rows, where, key="attribution-sum",
            look_for="A step is a component that decides. The last point is the model's own difference of logits.",
        )  # fmt: skip


def component_layer(label: str) -> int | None:
    """The layer of a component, None for embeddings and the rest."""
    at = label.partition("_")[0]
    return int(at) if at.isdigit() else None


def _heads(found: DirectAttribution, where: str) -> None:
    from workbench.figures.attribution import head_attribution, head_values

    shown = lane_or_change(found.lanes, "attribution-lane")
    lane, found = shown.lane, shown.of(found, "values", "difference")
    z = head_values(found, lane)
    values = [[float(x) for x in line] for line in z]
    top = max((abs(x) for line in values for x in line), default=1.0) or 1.0
    st.caption("Cell: what the head adds to the target's logit less the distractor's. Vermilion pushes the target, blue the distractor.")
    picked = head_grid(values, key="attribution-grid", scale=top, signed=True)
    if picked is not None:
        layer, head = picked
        with st.container(border=True, key="drawer-attribution"):
            st.markdown(f"**Head {layer}.{head}** adds {words.number(values[layer][head])} to the logit difference.")
            scope.verbs(layer, head, key="attribution-head")
    with st.expander("Picture and table"):
        rows = [{"head": f"{i}.{j}", "logit difference": x} for i, line in enumerate(values) for j, x in enumerate(line)]
        figure_panel(head_attribution(found, lane), rows, where, key="attribution-heads")
