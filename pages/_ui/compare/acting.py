"""Compare: how a lane's edits act: at which tokens, with the base's attention or their own, and one after which other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.compare import running
from pages._ui.kit import frame, jobs, words
from pages._ui.kit.components import token_strip
from pages._ui.kit.lanes import own_dose
from pages._ui.kit.state import option, part, state
from workbench.edits.lane import Dosed, Lane, Named

if TYPE_CHECKING:
    from workbench.progress import Progress
    from workbench.session import Session

# Names of position rules, and what people call them; the empty one leaves an edit as it was fitted.
PLACES: Mapping[str, str] = {
    "": "as it was fitted", "all": "everywhere", "prompt": "on the prompt", "generated": "on the answer", "last": "at the last token",
    "first 1": "on the first token of the answer", "first 4": "on the first 4 tokens of the answer",
    "first 16": "on the first 16 tokens of the answer",
}  # fmt: skip
GATE: jobs.Slot[str, str] = jobs.Slot("gate")
"""Its settings are the edit, its result the edit with a probe."""
Acts = tuple[tuple[int, ...], tuple[str, ...]]
"""Which lanes keep the base's attention, and the position rule of each: as `CompareSettings` takes them."""


@dataclass
class Acting:
    """What this tab said of its lanes, by what they are chosen by."""

    where: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    frozen: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    ungated: dict[str, str] = field(default_factory=dict[str, str])
    """Edits that got a probe here, and the one that each was without."""


def acts(lanes: Sequence[Lane]) -> Acts:
    """How each lane acts."""
    mine = part(Acting)
    where = tuple(mine.where.get(option(lane), "") for lane in lanes)
    return tuple(i for i, lane in enumerate(lanes) if option(lane) in mine.frozen), where if any(where) else ()


def control(session: Session, lane: Lane, at: int, known: Mapping[str, str]) -> None:
    """The popover of one lane; a lane that is only a prompt acts nowhere."""
    if not lane.edits:
        return
    mine, key = part(Acting), f"acts-{'+'.join(option(lane))}"
    told = [PLACES[mine.where[option(lane)]]] if mine.where.get(option(lane)) else []
    told += ["the base's attention"] if option(lane) in mine.frozen else []
    with st.popover(f"How {'ABCDE'[at]} acts{': ' if told else ''}{', '.join(told)}", icon=":material/tune:", key=f"{key}-pop"):
        st.selectbox(
            "Where it acts", list(PLACES), index=list(PLACES).index(mine.where.get(option(lane), "")), format_func=PLACES.__getitem__,
            key=f"{key}-where", on_change=_place, args=(option(lane), f"{key}-where"),
            help="For edits of activations; an edit of weights acts at every token. A gate of the fit decides token by token beside it.",
        )  # fmt: skip
        _drawn(session, lane, at, mine.where.get(option(lane), ""), key)
        if lane.prompting is None:
            st.toggle(
                "Keep the base's attention", option(lane) in mine.frozen, key=f"{key}-frozen", on_change=_freeze,
                args=(option(lane), f"{key}-frozen"),
                help="Every head looks where the untouched model does on this text: what the edit still does is not by looking elsewhere.",
            )  # fmt: skip
        _gate(session, lane, at, key)
        _stacked(session, lane, at, known, key)


def _drawn(session: Session, lane: Lane, at: int, rule: str, key: str) -> None:
    """The rule on the tokens of what the lane said last; where it acts as it was fitted, Edit shows that."""
    from workbench.methods.shared.touched import acted_on

    found, of = jobs.result(running.COMPARE), jobs.settings_of(running.COMPARE)
    if not rule or found is None or of is None or [one.keys for one in of.lanes[at : at + 1]] != [lane.keys]:
        return
    asked, said = found.prompts[0], [token.text for token in found.texts[0][at + 1].tokens]
    tokens, n_prompt = session.token_texts(lane.prompting.on(asked) if lane.prompting else asked)
    acts = acted_on(rule, n_prompt + len(said), n_prompt)
    token_strip([*tokens, *said], key=f"{key}-drawn", marks=["write" if on else "" for on in acts], twin=False)
    st.caption("Dashed: the tokens that it acts at. The prompt's last one decides the first of the answer.")


def _gate(session: Session, lane: Lane, at: int, key: str) -> None:
    """Let a probe decide token by token whether the lane's one edit acts; the gated edit takes its place, and gives it back."""
    mine = part(Acting)
    if len(lane.edits) != 1:
        return
    (edit,) = lane.keys
    if edit in mine.ungated:
        st.caption("A probe decides token by token: it acts where the text is like the answers of its demonstrations.")
        st.button("Take the probe off", key=f"{key}-ungate", on_click=_swap, args=(at, edit, mine.ungated[edit]))
        return
    frame.act(
        "Act only while a probe fires", _begin_gate, edit, key=f"{key}-gate",
        help="Fits a probe at each site: answers of its demonstrations against neutral text, of which at most 1 % may pass (CAST).",
    )  # fmt: skip
    if jobs.settings_of(GATE) == edit or jobs.is_running(GATE):
        jobs.panel(GATE, lambda gated: st.button("Use the gated edit", key=f"{key}-gated", on_click=_swap, args=(at, edit, gated)))
    elif (error := state().failed.get(GATE.name)) is not None:
        frame.problem(error, f"{key}-gate")


def _begin_gate(edit: str) -> None:
    def work(session: Session, progress: Progress) -> str:
        from workbench.workspace.story import gated_as_fitted

        return gated_as_fitted(session.model, session.shelf, session.workspace, session.demos, edit, progress)

    jobs.start(GATE, "Fitting the probe", work, edit)


def _swap(at: int, old: str, new: str) -> None:
    """Put one edit in the place of another, at its dose, acting where that one did."""
    mine, now = part(Acting), state()
    lane = now.lanes[at]
    given = replace(lane, edits=tuple(Named(new, dose) for _, dose in lane.doses))
    if mine.ungated.pop(old, None) != new:
        mine.ungated[new] = old
    mine.where[option(given)] = mine.where.get(option(lane), "")
    mine.frozen |= {option(given)} if option(lane) in mine.frozen else set()
    now.lanes = tuple(given if i == at else one for i, one in enumerate(now.lanes))


def _place(lane: tuple[str, ...], key: str) -> None:
    part(Acting).where[lane] = st.session_state[key]


def _freeze(lane: tuple[str, ...], key: str) -> None:
    (part(Acting).frozen.add if st.session_state[key] else part(Acting).frozen.discard)(lane)


def _stacked(session: Session, lane: Lane, at: int, known: Mapping[str, str], key: str) -> None:
    """The edits of the lane in their order, and another one behind them."""
    if len(lane.edits) > 1:
        st.caption("They act in this order: " + words.plain(", then ".join(known[edit.key] for edit in lane.edits)) + ".")
        st.button("Turn the order round", key=f"{key}-turn", on_click=_set, args=(at, tuple(reversed(lane.edits))))
        if len(lane.edits) == 2:
            st.caption("*Spectra* shows the angle between the two, layer by layer.")
    others = [edit for edit in known if edit not in lane.keys]
    if others:
        chosen = st.selectbox("Then also", others, index=None, format_func=known.__getitem__, key=f"{key}-also", placeholder="none")
        if chosen is not None:
            st.button("Stack it", key=f"{key}-stack", on_click=_set, args=(at, (*lane.edits, Named(chosen, own_dose(session, chosen)))))


def _set(at: int, edits: tuple[Dosed, ...]) -> None:
    now = state()
    now.lanes = tuple(replace(lane, edits=edits) if i == at else lane for i, lane in enumerate(now.lanes))
