"""Compare: lanes beside each other, streamed; colours, hover, pins, thumbs; one edit at five doses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.compare import concept_meter
from pages._ui.demonstrations import sets
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.components import Bars, token_strip
from pages._ui.kit.doses import dose_slider
from pages._ui.kit.figures import table_panel
from pages._ui.kit.lanes import known_edits, lane_name, own_dose, usable_lanes
from pages._ui.kit.said import prompt_lane
from pages._ui.kit.state import MAX_LANES, option, state
from workbench.conversations import Prompt
from workbench.data.cutting import first_sentence
from workbench.edits.lane import Lane, Named
from workbench.settings import CompareSettings
from workbench.workspace.job import Snapshot

if TYPE_CHECKING:
    from workbench.evaluate.comparison import ComparedToken, Comparison, LaneText
    from workbench.session import Session

COLOURS = ("Text difference", "KL", "Δ log-probability", concept_meter.COLOUR)
_LEGEND = {
    "Text difference": "Underlined: the first token at which the text leaves the base's, and all after it.",
    "KL": "Colour: KL(base ‖ lane) at this token, in nats; full colour is 1 nat. Both score the lane's own text.",
    "Δ log-probability": "Vermilion: likelier under the edit than under the base. Blue: less likely. Full colour is 2 nats.",
}
DOSES = (0.0, 0.25, 0.5, 1.0, 2.0)
COMPARE: jobs.Slot[CompareSettings, Comparison] = jobs.Slot("compare")
FIVE_DOSES: jobs.Slot[CompareSettings, Comparison] = jobs.Slot("doses")


# Lanes.
def lane_controls(session: Session) -> tuple[Lane, ...]:
    """Choose edits, up to five, and their doses; return the lanes."""
    known = known_edits(session)
    lanes = usable_lanes(session)
    key = "compare-edits"
    names = {(edit,): name for edit, name in known.items()} | {option(lane): lane_name(session, lane) for lane in lanes}
    st.session_state[key] = [option(lane) for lane in lanes]
    st.multiselect(
        "Edits", list(names), format_func=names.__getitem__, key=key, max_selections=MAX_LANES, on_change=_choose, args=(session, key),
        placeholder="Add an edit as a lane",
    )  # fmt: skip
    for i, lane in enumerate(lanes):
        for j, edit in enumerate(lane.edits):
            slider = f"dose-{'+'.join(option(lane))}-{j}"
            st.session_state[slider] = edit.written_dose
            name = f"{'ABCDE'[i]}  {known[edit.key]}"
            dose_slider(f"Dose of {words.plain(name)}", key=slider, on_change=_dose, args=(i, j, slider))
    prompt_lane(session, _add, key="compare")
    return lanes


def _choose(session: Session, key: str) -> None:
    """Keep the lanes that are still chosen, and add the edits that are new."""
    now, chosen = state(), st.session_state[key]
    now.lanes = tuple(lane for lane in now.lanes if option(lane) in chosen)
    kept = {option(lane) for lane in now.lanes}
    for keys in chosen:
        if keys not in kept:
            now.turn_on(keys[0], own_dose(session, keys[0]))


def _add(lane: Lane) -> None:
    now = state()
    now.lanes = (*(one for one in now.lanes if option(one) != option(lane)), lane)[-MAX_LANES:]


def _dose(at: int, part: int, key: str) -> None:
    now, dose = state(), st.session_state[key]
    edits = [Named(edit.key, dose) if j == part else edit for j, edit in enumerate(now.lanes[at].edits)]
    now.lanes = tuple(replace(lane, edits=tuple(edits)) if i == at else lane for i, lane in enumerate(now.lanes))


# Streaming and results.
def begin(slot: jobs.Slot[CompareSettings, Comparison], settings: CompareSettings) -> None:
    """Start a comparison in a slot; its text streams into the job's own buffer."""
    jobs.start(slot, "Comparing", lambda session, progress: session.run(settings, progress=progress), settings)


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


def draw(session: Session, found: Comparison, colour: str, *, key: str = "compare") -> None:
    """Every prompt with its lanes."""
    for told in found.near_identity():
        st.caption(f":material/warning: {words.plain(told)}")
    of = jobs.settings_of(COMPARE)
    meter = concept_meter.reading(session, found, of) if colour == concept_meter.COLOUR and of is not None else None
    if colour in _LEGEND:
        st.caption(_LEGEND[colour])
    for note in found.notes:
        st.caption(f":orange[{words.plain(note)}]")
    for p, prompt in enumerate(found.prompts):
        if len(found.prompts) > 1:
            st.text(str(prompt))
        for column, i in zip(st.columns(len(found.lanes), gap="small"), range(len(found.lanes))):
            with column, frame.lane_box(i, f"{key}-{p}"):
                _lane(session, found, p, i, colour, f"{key}-{p}-{i}", meter)
    how = found.sampling
    kind = "greedy" if how.temperature == 0 else f"temperature {how.temperature:g}, seed {how.seed}"
    caption = words.provenance(model=found.model, how=kind, n=words.count(len(found.prompts), "prompt"))
    with st.expander("Table"):
        table_panel(found.rows(), caption, key=f"{key}-rows")
    frame.source(caption, f"{key}-source")


def _lane(session: Session, found: Comparison, p: int, i: int, colour: str, key: str, meter: concept_meter.Reading | None) -> None:
    lane, text = found.lanes[i], found.texts[p][i]
    st.html(frame.lane_chip(i, lane.label))
    if not text.tokens:
        st.caption("Nothing was written: the first token was the end.")
        return
    values = concept_meter.strip_values(meter, p, i, len(text.tokens)) if colour == concept_meter.COLOUR else _values(text, i, colour)
    pinned = token_strip(
        [token.text for token in text.tokens], key=f"{key}-strip", twin=False, signed=colour == "Δ log-probability",
        values=values, marks=_marks(found, p, i, colour), notes=[_note(token, i) for token in text.tokens],
        cards=[_card(token, i, lane.label) for token in text.tokens],
    )  # fmt: skip
    if i:
        mean = sum(token.kl_nats for token in text.tokens) / len(text.tokens)
        edits = ", ".join(edit[:6] for edit in lane.edit_ids)
        of = f" Edit {edits}." if edits else " No edit: what it says stands before the prompt."
        st.caption(f"{len(text.tokens)} tokens, ended by {text.ended}. KL to base {words.number(mean)} nats a token.{of}")
    else:
        st.caption(f"{len(text.tokens)} tokens, ended by {text.ended}. The untouched model.")
    if told := concept_meter.mean(meter, p, i):
        st.caption(told)
    if text.thinking:
        with st.expander("What it thought before it answered"):
            st.text(text.thinking)
    _thumbs(session, found, p, _taken(text, pinned), key)
    _pin(text, pinned, i, lane.label, key)


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
    base = Bars("base", tuple((words.token(text), share) for text, share in token.base_top), frame.LANE_COLOURS[0])
    if lane == 0:
        return [base]
    return [base, Bars(label, tuple((words.token(text), share) for text, share in token.top), frame.LANE_COLOURS[lane % 6])]


def _pin(text: LaneText, pinned: int | None, lane: int, label: str, key: str) -> None:
    """The pinned token's top five as a table: the same as the card, to stay and to be read aloud."""
    names = [f"{j}  {words.token(token.text)}" for j, token in enumerate(text.tokens)]
    at = st.selectbox(
        "Token", range(len(names)), index=pinned, format_func=names.__getitem__, key=f"{key}-twin-{pinned}", placeholder="Pin a token",
        label_visibility="collapsed",
    )  # fmt: skip
    if at is None:
        return
    token = text.tokens[at]
    rows = [{"lane": "base", "token": words.token(name), "probability": share} for name, share in token.base_top]
    if lane:
        rows += [{"lane": label, "token": words.token(name), "probability": share} for name, share in token.top]
    with st.container(key=f"{key}-top"):
        st.dataframe(rows, hide_index=True)


def _taken(text: LaneText, pinned: int | None) -> str:
    """What a thumb takes: the answer's first sentence, or the answer up to the pinned token."""
    if pinned is None:
        return first_sentence(text.answer)
    whole = "".join(token.text for token in text.tokens)
    start = whole.rfind(text.answer) if text.thinking else 0
    return "".join(token.text for token in text.tokens[: pinned + 1])[max(start, 0) :].rstrip() or first_sentence(text.answer)


def _thumbs(session: Session, found: Comparison, p: int, text: str, key: str) -> None:
    with st.container(horizontal=True, gap="small"):
        for good, sign, word in ((True, ":material/thumb_up:", "positive"), (False, ":material/thumb_down:", "negative")):
            st.button(
                word, icon=sign, key=f"{key}-{word}", type="tertiary", on_click=_judge, args=(session, found.prompts[p], text, good),
                help=f"Adds to the demonstrations as a {word}: {words.plain(text.strip())}  \nPin a token to end it there.",
            )  # fmt: skip


def _judge(session: Session, prompt: Prompt, text: str, good: bool) -> None:
    """Add a judged answer; a prompt that has the other side already gets both in one row."""
    try:
        title = sets.judge(session, prompt, text, good)
    except Exception as error:  # shown as a toast; nothing else depends on it
        st.toast(words.plain(f"{error} {getattr(error, 'hint', '')}"))
        return
    st.toast(f"Added to {words.plain(title)} as a {'positive' if good else 'negative'}.")


# One edit, five doses.
def dose_strip(session: Session, lanes: Sequence[Lane], settings: CompareSettings) -> None:
    """One edit at five doses on the first prompt."""
    if not any(lane.keys for lane in lanes):
        return
    known = known_edits(session)
    with st.expander("Dose strip: one edit, five doses"):
        edits = list(dict.fromkeys(edit for lane in lanes for edit in lane.keys))
        edit = st.selectbox("Edit", edits, format_func=lambda key: str(known.get(key, key)), key="strip-edit")
        wanted = replace(settings, prompts=settings.prompts[:1], lanes=tuple(Lane((Named(edit, dose),)) for dose in DOSES[1:]))
        frame.act("Run five doses", begin, FIVE_DOSES, wanted, key="strip-run")
        jobs.panel(FIVE_DOSES, lambda found: draw(session, found, "KL", key="doses"), settings=wanted, live=live)
