"""The form of the chosen method: its presets, three questions, the rest under *More*."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import scope
from pages._ui.kit.doses import HELP, dose_slider
from pages._ui.kit.forms import held, knob_form, put, released_form, shown, use_values
from pages._ui.kit.place_choice import place_choice, place_key
from pages._ui.kit.reading import chat_keys
from pages._ui.kit.words import plain
from workbench.data.demonstrations import Demonstrations
from workbench.settings import Rivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.knobs import Knob
    from workbench.methods.registry import Method
    from workbench.methods.shared.reading import FittedAt
    from workbench.session import Session


def dose_key(name: str) -> str:
    """Where the form keeps a method's dose: one that was chosen for another method means nothing here."""
    return f"fit-dose-{name}"


def rival_keys(of: str) -> tuple[str, str]:
    """Where the form keeps the sentences that ask for the same as a set, and for the opposite."""
    return f"fit-rival-{of}", f"fit-against-{of}"


@dataclass(frozen=True)
class Said:
    """What the form of a method says: its knobs, the seed, the dose at which the fit is measured, and where the edit is to act."""

    values: dict[str, Any]
    seed: int
    dose: float
    place: str


def form(session: Session, known: Method) -> Said:
    """Draw presets and knobs; return what they say."""
    from workbench.knobs import knobs

    items, key, info = knobs(known.config), f"knob-{known.name}", session.model.info
    chosen = _presets(items, known, key)
    scope.fill(known, key=key, shown=shown, model=session.model)
    released = released_form(known.config, key=key, is_asked=chosen is not None and _is_released(known, chosen))
    values = knob_form(items, key=key, n_layers=info.n_layers, after=lambda: _dose(items, known, key), more=lambda: _more(session, known))
    seed = int(values.pop("seed"))
    place = st.session_state.get(place_key(known.name), "") if known.needs.has_place else ""
    return Said(values | released, seed, float(st.session_state[dose_key(known.name)]), place)


def _presets(items: Sequence[Knob], known: Method, key: str) -> str | None:
    """Choose a preset, which sets every knob; return the one chosen last, None if there is none."""
    if not known.presets:
        return None
    names, chosen = list(known.presets), f"preset-{known.name}"
    # None of them is chosen at first: a list would show its first one, whatever the knobs say.
    few, more = st.segmented_control, partial(st.selectbox, index=None, placeholder="as set below")
    return (few if sum(map(len, names)) < 30 else more)(
        "Start from a preset", names, key=chosen, persist_state="session", on_change=lambda: _preset(items, known, chosen, key),
        help="Sets every knob below. *paper* is what the authors published, the first is ours; *Presets side by side* tells them apart.",
    )  # fmt: skip


def _is_released(known: Method, preset: str) -> bool:
    """Whether a preset does as released code does."""
    from workbench.knobs import COMPAT, as_json, compat_of

    compat = compat_of(known.config)
    return compat is not None and bool(compat.words(as_json(known.configure(preset=preset))[COMPAT]))


def _more(session: Session, known: Method) -> dict[str, Any]:
    """What every method is asked, behind its own knobs."""
    if known.needs.has_place:
        at = place_key(known.name)
        place_choice(session, st.session_state.get(at, ""), partial(st.session_state.__setitem__, at), key=at)
    seed = st.number_input(
        "Seed", 0, 2**32 - 1, 0, step=1, key="fit-seed", persist_state="session", help="The same seed gives the same edit."
    )
    return {"seed": seed}


def _dose(items: Sequence[Knob], known: Method, key: str) -> None:
    """The one control of how much: a knob that does the same is told beside it, where it is not as usual."""
    at = dose_key(known.name)
    st.session_state.setdefault(at, 1.0)
    dose = dose_slider("Dose", key=at, persist_state="session", help=f"How much of the edit is measured, saved and compared. {HELP}")
    for item in items:
        value = held(item, key=key) if item.is_dose else item.default
        if value != item.default:
            times = f"{item.label} {value:g} at dose 1, so {dose * value:g} {item.unit} here."
            with st.container(horizontal=True, vertical_alignment="center", key=f"strength-{known.name}"):
                st.caption(plain(times))
                st.button("As usual", key=f"usual-{known.name}", type="tertiary", on_click=_usual, args=(item, key))


def _usual(item: Knob, key: str) -> None:
    put(item, item.default, key=key)


def fitted(session: Session, known: Method, values: dict[str, Any]) -> FittedAt | None:
    """Where the form's method will be fitted, as far as that is known before."""
    from workbench.methods.shared.reading import fitted_at

    return fitted_at(known.configure(values), session.model.info)


def rivals(of: str) -> Rivals:
    """Choose sentences that an edit of a set is measured beside: asking costs no fit, so an edit has to be worth more."""
    with st.expander("Rivals in words", key="fit-rivals"):
        said = st.text_input(
            "A sentence that asks for the same", key=rival_keys(of)[0], persist_state="session", placeholder="A careful speaker answers.",
            help="It stands before every prompt, with no edit, and is measured beside the edit.",
        )  # fmt: skip
        against = st.text_input(
            "A sentence that asks for the opposite", key=rival_keys(of)[1], persist_state="session", placeholder="none",
            help="It stands before every prompt with the edit, without, and behind the other sentence: whether the edit stands.",
        )  # fmt: skip
    return Rivals(said.strip(), against.strip())


def _preset(items: Sequence[Knob], known: Method, chosen: str, key: str) -> None:
    from workbench.knobs import as_json

    name = st.session_state.get(chosen)
    if name in known.presets:
        use_values(items, as_json(known.configure(preset=name)), key=key)


def set_chat(session: Session, demonstrations: Demonstrations, chat: bool | None, system: str) -> None:
    """Set what `as_chat` shows of a set of texts; call it before the form is drawn."""
    from workbench.workspace.rendering import goes_as_chat

    on, said = chat_keys(demonstrations.name)
    # A system turn implies chat, as on the command line.
    st.session_state[on] = goes_as_chat(session.model, demonstrations) or bool(system) if chat is None else chat
    st.session_state[said] = system


def as_chat(session: Session, demonstrations: Demonstrations) -> tuple[bool | None, str]:
    """Choose whether a set of texts is put to the model as chat, and under which system turn; None where there is nothing to choose."""
    from workbench.models.chat import has_template, template_name
    from workbench.workspace.rendering import goes_as_chat

    tokenizer = session.model.tokenizer
    if not has_template(tokenizer):
        return None, ""
    if demonstrations.is_chat:
        st.caption(plain(f"The set holds conversations; they are read through the {template_name(tokenizer)}."))
        return None, ""
    first, (chat_key, system_key) = goes_as_chat(session.model, demonstrations), chat_keys(demonstrations.name)
    st.session_state.setdefault(chat_key, first)
    on = st.toggle("As chat", key=chat_key, persist_state="session")
    why = "" if first else " Most prompts of this set end in the middle of a sentence, so it is off at first."
    st.caption(plain(f"On: each prompt is one turn of the user, through the {template_name(tokenizer)}. Off: a text to go on with.{why}"))
    if not on:
        return on, ""
    system = st.text_input("System turn", key=system_key, persist_state="session", placeholder="none", help="Stands before each prompt.")
    return on, system.strip()
