"""Compare: what the lanes said, side by side and streamed: as text, coloured, token by token under the pointer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.compare import asking, branching, concept_meter, known, running, thumbing, token_drawer
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.components import Bars, token_strip
from pages._ui.kit.figures import table_panel
from pages._ui.kit.lanes import at_hand, known_edits
from workbench.data.known import KnownAnswer
from workbench.workspace.job import Snapshot

if TYPE_CHECKING:
    from workbench.evaluate.comparison import ComparedToken, Comparison, LaneText
    from workbench.session import Session
    from workbench.settings import CompareSettings

COLOURS = ("Text difference", "KL", "Δ log-probability", concept_meter.COLOUR)
_LEGEND = {
    "Text difference": "Underlined: the first token at which the text leaves the base's, and all after it.",
    "KL": "Colour: KL(base ‖ lane) at this token, in nats; full colour is 1 nat. Both score the lane's own text.",
    "Δ log-probability": "Vermilion: likelier under the edit than under the base. Blue: less likely. Full colour is 2 nats.",
}
# In the card under the pointer; the pinned token shows all that were kept.
_IN_CARD = 5


@dataclass(frozen=True)
class Look:
    """How texts are drawn: what their colour says, and whether they stand as text or as tokens."""

    colour: str = COLOURS[0]
    is_prose: bool = True
    key: str = "compare"


def looks() -> Look:
    """Draw the choice of colour, and the switch between text and tokens."""
    colour = st.segmented_control("Colour", COLOURS, default=COLOURS[0], key="compare-colour", required=True, label_visibility="collapsed")
    tokens = st.toggle("Tokens", key="compare-tokens", persist_state="session", help="Each token by itself, with its spaces and line ends.")
    return Look(colour or COLOURS[0], not tokens)


def panel(session: Session, settings: CompareSettings, look: Look, nothing: Callable[[], object]) -> None:
    """The comparison as it stands: running, failed, done, or nothing yet."""

    def drawn(found: Comparison) -> None:
        draw(session, found, look, jobs.settings_of(running.COMPARE))

    jobs.panel(running.COMPARE, drawn, settings=settings, nothing=nothing, live=live)
    branching.panel(lambda found, of, key: draw(session, found, replace(look, key=key), of), live)


def live(shot: Snapshot) -> None:
    """The texts so far, a column a lane, from the job's buffer."""
    found: Any = shot.live.get("texts")
    if not found:
        return
    labels: Sequence[str] = found["lanes"]
    prompts: Sequence[Sequence[str]] = found["texts"]
    for p, texts in enumerate(prompts[:3]):
        for column, (i, text) in zip(st.columns(len(texts)), enumerate(texts)):
            with column, frame.lane_box(i, f"live-{p}"):
                st.html(frame.lane_chip(i, labels[i]))
                st.text(text or " ")


def draw(session: Session, found: Comparison, look: Look, of: CompareSettings | None) -> None:
    """Every prompt with its lanes; of a prompt that was drawn several times, one draw at a time."""
    for told in found.near_identity():
        st.caption(f":material/warning: {words.plain(told)}")
    is_metered = look.colour == concept_meter.COLOUR and look.key == running.COMPARE.name
    meter = concept_meter.reading(session, found, of) if is_metered and of is not None else None
    if look.colour in _LEGEND:
        st.caption(_LEGEND[look.colour])
    for note in found.notes:
        st.caption(f":orange[{words.plain(note)}]")
    for told in _gone(session, found):
        st.caption(f":orange[{words.plain(told)}]")
    answers = known.known(session, found.prompts)
    groups = [[at for at, _ in group] for _, group in groupby(enumerate(found.prompts), key=lambda pair: pair[1])]
    keyed = next((draws for draws in groups if len(draws) > 1 and look.key == running.COMPARE.name), None)  # a key has one meaning
    for draws in groups:
        p = thumbing.shown(session, found, draws, look.key, has_keys=draws is keyed)
        if len(groups) > 1:
            st.text(str(found.prompts[p]))
        known.told(answers[p])
        pinned: dict[int, int] = {}
        for column, i in zip(st.columns(len(found.lanes), gap="small"), range(len(found.lanes))):
            with column, frame.lane_box(i, f"{look.key}-{p}"):
                at = _lane(session, found, (p, i), look, meter, answers[p])
                if at is not None:
                    pinned[i] = at
        if of is not None:
            token_drawer.drawer(session, found, of, p, pinned, look.key)
    _below(found, look.key)


def _gone(session: Session, found: Comparison) -> list[str]:
    """A sentence for each lane with an edit that is no longer at hand: its texts are a record, and cannot be made again."""
    here = known_edits(session).keys()
    return [
        f"The edit of lane {'·ABCDE'[i % 6]}, {lane.label}, was not saved and is gone: what it said is shown as it was recorded."
        for i, lane in enumerate(found.lanes)
        if not set(at_hand(session, lane.lane).keys) <= here
    ]


def _prose(text: LaneText) -> list[str]:
    """The tokens as a text to read: the last one, where it ends the text, is a mark and no word of the tokenizer's own."""
    said = [token.text for token in text.tokens]
    return [*said[:-1], " ∎"] if text.ended == "end" else said


def _below(found: Comparison, key: str) -> None:
    how, n = found.sampling, len(dict.fromkeys(found.prompts))
    kind = "greedy" if how.temperature == 0 else f"temperature {how.temperature:g}, seed {how.seed}"
    drawn = f"{words.count(len(found.prompts), 'text')} a lane" if len(found.prompts) > n else ""
    caption = words.provenance(model=found.model, how=kind, n=words.count(n, "prompt"), drawn=drawn)
    with st.expander("Table"):
        table_panel(found.rows(), caption, key=f"{key}-rows")
    frame.source(caption, f"{key}-source")


def _lane(
    session: Session, found: Comparison, where: tuple[int, int], look: Look, meter: concept_meter.Reading | None, answer: KnownAnswer | None
) -> int | None:
    """One text under its chip; return the token that is pinned."""
    p, i = where
    lane, text, key = found.lanes[i], found.texts[p][i], f"{look.key}-{p}-{i}"
    st.html(frame.lane_chip(i, lane.label))
    if not text.tokens:
        st.text(text.text or "Nothing was written: the first token was the end.")
        st.caption("Stopped here. *Compare* or *Continue* writes it to its end, token by token." if text.text else "")
        return None
    n = len(text.tokens)
    values = concept_meter.strip_values(meter, p, i, n) if look.colour == concept_meter.COLOUR else _values(text, i, look.colour)
    pinned = token_strip(
        [token.text for token in text.tokens], key=f"{key}-strip", twin=False, signed=look.colour == "Δ log-probability",
        values=values, marks=_marks(found, p, i, look.colour), notes=[_note(token, i) for token in text.tokens],
        cards=[_card(token, i, lane.label) for token in text.tokens], prose=_prose(text) if look.is_prose else None,
    )  # fmt: skip
    known.verdict(answer, text.answer)
    if i:
        mean = sum(token.kl_nats for token in text.tokens) / n
        edits = ", ".join(edit[:6] for edit in lane.edit_ids)
        of = f" Edit {edits}." if edits else " No edit: what it says stands before the prompt."
        st.caption(f"{n} tokens, ended by {text.ended}. KL to base {words.number(mean)} nats a token.{of}")
    else:
        st.caption(f"{n} tokens, ended by {text.ended}. The untouched model.")
    if told := concept_meter.mean(meter, p, i):
        st.caption(told)
    if text.thinking:
        with st.expander("What it thought before it answered"):
            st.text(text.thinking)
    token_drawer.thumbs(session, found.prompts[p], token_drawer.taken(text, pinned), key)
    if look.key == running.COMPARE.name and asking.talks():
        st.button(
            "Go on from this answer", icon=":material/forum:", key=f"{key}-answer", type="tertiary", on_click=asking.answered,
            args=(text.answer,), help="It becomes the assistant's turn of the conversation above; the next turn is yours.",
        )  # fmt: skip
    return token_drawer.picked(text, pinned, key)


def _values(text: LaneText, lane: int, colour: str) -> list[float] | None:
    if lane == 0 or colour == "Text difference":
        return None
    if colour == "KL":
        return [min(1.0, token.kl_nats) for token in text.tokens]
    return [max(-1.0, min(1.0, token.change / 2)) for token in text.tokens]


def _marks(found: Comparison, p: int, lane: int, colour: str) -> list[str] | None:
    if lane == 0 or colour != "Text difference":
        return None
    first = found.first_difference(p, lane)
    return ["new" if first is not None and i >= first else "" for i in range(len(found.texts[p][lane].tokens))]


def _note(token: ComparedToken, lane: int) -> str:
    text = f"log p {token.log_prob:.2f}"
    return text if lane == 0 else f"{text}, change {token.change:+.2f} nats, KL {token.kl_nats:.2f}"


def _card(token: ComparedToken, lane: int, label: str) -> list[Bars]:
    base = Bars("base", tuple((words.token(text), share) for text, share in token.base_top[:_IN_CARD]), frame.LANE_COLOURS[0])
    if lane == 0:
        return [base]
    top = tuple((words.token(text), share) for text, share in token.top[:_IN_CARD])
    return [base, Bars(label, top, frame.LANE_COLOURS[lane % 6])]


def strip_of_doses(session: Session, found: Comparison) -> None:
    """The texts of a dose strip, coloured by KL."""
    draw(session, found, Look("KL", key="doses"), None)
