"""Compare: colour the answers by a concept meter, fitted on a demonstration set and read at every token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.lanes import with_base
from pages._ui.kit.rows import rows_of
from pages._ui.kit.state import state
from workbench.conversations import Conversation
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.lenses.concept_meter import ConceptMeter
    from workbench.progress import Progress
    from workbench.session import Session

COLOUR = "Concept meter"
LEGEND = "Colour: how much the model's state at this token looks like the set's positive side: 0 not at all, 1 fully."
# Below this a meter tells the sides apart hardly better than a coin.
WEAK = 0.7
_PREFERRED = ("careful", "truthfulness")


@dataclass(frozen=True)
class Reading:
    """A fitted meter's accuracy on validation prompts, and P(target) of each generated token by (prompt, lane)."""

    name: str
    accuracy: float
    n: int
    values: Mapping[tuple[int, int], tuple[float, ...]]


@dataclass(frozen=True)
class Metered:
    """A comparison whose texts are read with the meter of a set with this fingerprint."""

    set: str
    data: str
    of: CompareSettings


METER: jobs.Slot[Metered, Reading] = jobs.Slot("meter")


def reading(session: Session, found: Comparison, of: CompareSettings) -> Reading | None:
    """Draw the choice of a concept and its job; return the reading of this comparison, None while there is none."""
    chosen = _concept(session)
    if chosen is None:
        frame.empty("A meter is fitted on demonstrations, and there are none yet.", "Open a set on Demonstrations first.", key="meter-set")
        return None
    rows = rows_of(session, chosen)
    if rows is None:
        return None
    settings = Metered(chosen, rows.fingerprint, of)
    frame.act("Read the meter", _run, found, settings, key="meter-run")
    jobs.panel(
        METER, lambda meter: _told(session, meter), settings=settings,
        nothing=lambda: frame.empty(
            "The answers will take their colour from a meter that tells the two sides of this set apart.", "Press *Read the meter*.",
            key="meter",
        ),
    )  # fmt: skip
    return jobs.result(METER) if jobs.settings_of(METER) == settings else None


def _concept(session: Session) -> str | None:
    offers = {offer.id: offer for offer in session.demos.list()}
    if not offers:
        return None
    key = "meter-set"
    if st.session_state.get(key) not in offers:
        st.session_state[key] = next((name for name in (*_PREFERRED, state().set_name) if name in offers), next(iter(offers)))
    return st.selectbox(
        "Concept", list(offers), format_func=lambda name: offers[name].title, key=key, persist_state="session", width=360,
        help="Its positive rows, or those labelled target, are the concept.",
    )  # fmt: skip


def _run(found: Comparison, settings: Metered) -> None:
    jobs.start(METER, "Reading the meter", lambda session, progress: read(session, found, settings, progress), settings)


def read(session: Session, found: Comparison, settings: Metered, progress: Progress) -> Reading:
    """Fit the meter of a set, then read it on every text of a comparison, each under its own lane."""
    from workbench.lenses.concept_meter import metered_tokens
    from workbench.workspace.rendering import as_read

    rows = session.demos(settings.set)
    # A meter reads a chat by a meter that was fitted on one.
    rows = as_read(session.model, rows, True) if any(isinstance(prompt, Conversation) for prompt in found.prompts) else rows
    meter: ConceptMeter = session.look("concept_meter", rows, progress=progress.part(0.0, 0.6))
    lanes = [session.lane(lane) for lane in with_base(settings.of.lanes)]
    values: dict[tuple[int, int], tuple[float, ...]] = {}
    for p, prompt in enumerate(found.prompts):
        progress(0.6 + 0.4 * p / len(found.prompts), "Reading the meter")
        for i, (lane, text) in enumerate(zip(lanes, found.texts[p])):
            asked, stack = lane.prompting.on(prompt) if lane.prompting else prompt, session.stack(replace(lane, prompting=None))
            (read_text,) = metered_tokens(session.model, meter, asked, [text.text or None], [stack])
            values[p, i] = tuple(token.probability for token in read_text.tokens if token.generated)
    return Reading(meter.name, meter.accuracy, meter.n_validation, values)


def _told(session: Session, meter: Reading) -> None:
    from workbench.numerics.intervals import share_interval

    right = share_interval(round(meter.accuracy * meter.n), meter.n)
    is_weak = meter.accuracy < WEAK or right.low <= 0.5
    weak = " It hardly tells the sides apart, as far as so many prompts show: read nothing into the colours." if is_weak else ""
    st.caption(words.markdown(f"{LEGEND} Accuracy of the meter on validation prompts: {right}.{weak}"))
    frame.source(words.provenance(model=session.model.info.name, set=meter.name, kind="linear", seed=0), "meter")


def strip_values(meter: Reading | None, prompt: int, lane: int, n: int) -> list[float] | None:
    """The colours of one strip; None where the text's tokens are not those that were generated."""
    values = () if meter is None else meter.values.get((prompt, lane), ())
    return list(values) if len(values) == n and n else None


def mean(meter: Reading | None, prompt: int, lane: int) -> str:
    """The text's mean reading in words."""
    values = () if meter is None else meter.values.get((prompt, lane), ())
    return f"Meter {sum(values) / len(values):.2f} on average over {words.count(len(values), 'token')}." if values else ""
