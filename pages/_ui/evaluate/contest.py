"""Equal damage on a page: methods and edits, each turned up as far as one limit of damage allows, beside prompts as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.evaluate.choosing import at_own_doses, edits_chosen, set_chosen
from pages._ui.evaluate.prompts import beside_prompts
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.methods import method, obstacles
from workbench.data.demonstrations import Demonstrations
from workbench.settings import EqualDamageSettings

if TYPE_CHECKING:
    from workbench.evaluate.equal_damage import EqualDamage
    from workbench.session import Session

CONTEST: jobs.Slot[EqualDamageSettings, EqualDamage] = jobs.Slot("equal-damage")
_MOST = 6


def compete(session: Session) -> None:
    """Set, methods, edits and prompts beside what each gains at the limit of damage."""
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        if (picked := set_chosen(session, key="contest-set")) is None:
            return
        settings = _settings(session, *picked)
        nobody = not settings.methods and not any(lane.edits for lane in settings.lanes)
        frame.act("Compare at equal damage", _begin, settings, type="primary", key="contest-run", disabled=nobody, width="stretch")
    with picture:
        jobs.panel(CONTEST, _draw, settings=settings, nothing=_nothing)


def _settings(session: Session, chosen: str, rows: Demonstrations) -> EqualDamageSettings:
    found = obstacles(session, rows)
    free = {name: method(name).title for name, why in found.items() if not why}
    key = f"contest-methods-{chosen}-{session.model.info.name}"
    st.session_state[key] = [name for name in st.session_state.get(key, list(free)[:2]) if name in free]
    methods = st.multiselect(
        "Methods to fit", list(free), format_func=free.__getitem__, key=key, max_selections=_MOST, persist_state="session",
        help="Each with its defaults on the rows marked fit. Mean difference and SEA take seconds; what searches or trains takes minutes.",
    )  # fmt: skip
    edits = edits_chosen(session, "Edits at hand", key="contest-edits", most=_MOST, first=False)
    prompts = beside_prompts(session, key="contest")
    limit = st.select_slider(
        "Damage", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), 0.1, key="contest-limit", persist_state="session",
        format_func=lambda nats: f"{nats:g} nats", 
        help="How far the most moved twentieth of neutral tokens may be moved, as KL to the untouched model.",
    )  # fmt: skip
    again = st.toggle(
        "Fit on shuffled sides too", False, key="contest-shuffled", persist_state="session",
        help="Each method learns the same texts with their sides mixed up, and stands at its own dose; it takes as long as the fits.",
    )  # fmt: skip
    lanes = (*at_own_doses(session, edits), *(lane for lane in prompts if not lane.edits))
    return EqualDamageSettings(chosen, tuple(methods), lanes, float(limit), shuffled=again)


def _begin(settings: EqualDamageSettings) -> None:
    jobs.start(
        CONTEST, "Comparing at equal damage", lambda session, progress: session.run(settings, progress=progress), settings, heavy=True
    )


def _draw(found: EqualDamage) -> None:
    from workbench.figures.basic import IntervalBar, intervals

    meaning(words.markdown(found.sentence), "contest")
    rows = list[IntervalBar]()
    for lane, one in enumerate(found.standings):
        name = "· base" if lane == 0 else f"{'ABCDEFGHIJKLMNO'[(lane - 1) % 15]} {_cut(one.label.label)}"
        controls = [
            (f"{what} {name[0]}", control.gain, None)
            for what, control in (("random edits like", one.placebo), ("shuffled fit of", one.shuffled))
            if control is not None
        ]
        for label, value, at in ((name, one.gain, lane % 6), *controls):
            low, high = (value.low, value.high) if not math.isnan(value.low) else (value.estimate, value.estimate)
            rows.append(IntervalBar(label, value.estimate, low, high, value.n, at))
    where = words.provenance(model=found.model, data=found.data, split=found.split, n=found.standings[0].gain.n)
    caption = f"{where} · tail {found.limit:g} nats/token"
    figure_panel(
        intervals(f"{found.title} at equal damage", rows, found.title + (f" ({found.unit})" if found.unit else "")), found.table(), caption,
        key="contest-figure",
        says="Each edit stands at the dose at which the most moved twentieth of neutral tokens is moved as far as the limit; prompts stand "
        "as they are.",
        look_for="An edit to the right of its own random edits, and of the prompt.",
    )  # fmt: skip
    for told in found.told:
        st.caption(f":material/info: {words.plain(told)}")


def _cut(label: str, most: int = 34) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _nothing() -> None:
    frame.empty(
        "What each method gains at the same damage will stand here, each at its own dose, beside random edits at theirs and prompts.",
        "Choose methods, then press *Compare at equal damage*.",
        key="contest",
    )
