"""Cards of the registered methods, the form of the chosen one, its presets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import scope
from pages._ui.kit.doses import HELP, dose_slider
from pages._ui.kit.forms import knob_form, released_form, shown, use_values
from pages._ui.kit.methods import method, obstacles
from pages._ui.kit.state import state
from pages._ui.kit.words import plain
from workbench.data.demonstrations import Demonstrations
from workbench.settings import Rivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.knobs import Knob
    from workbench.methods.registry import Method
    from workbench.methods.shared.needs import Obstacle
    from workbench.methods.shared.reading import FittedAt
    from workbench.session import Session


def cards(session: Session, demonstrations: Demonstrations) -> str:
    """Draw a card a method, greyed with the reason when it cannot run here; return the chosen one's name."""
    now, blocked = state(), obstacles(session, demonstrations)
    free = [name for name in blocked if not blocked[name]]
    if now.method not in blocked:
        now.method = (free or list(blocked))[0]
    with st.container(horizontal=True, key="methods", gap="xsmall"):
        for name in sorted(blocked, key=lambda name: bool(blocked[name])):
            _card(method(name), blocked[name], name == now.method, _found(session, name))
    chosen = method(now.method)
    if blocked[now.method]:
        reason = blocked[now.method][0]
        st.caption(f":orange[{plain(reason.reason)}] {plain(reason.hint)}")
    else:
        st.caption(f"**{plain(chosen.title)}.** {plain(chosen.summary)} {plain(chosen.paper)}")
    return now.method


def _found(session: Session, name: str) -> str:
    """What the method was found to do on a real model; of the embedded ones the cards of their own tell."""
    from workbench.methods.shared.evidence import evidence
    from workbench.models.catalog import EMBEDDED

    return "" if session.model.info.name in EMBEDDED else evidence(name)


def _card(known: Method, blocked: Sequence[Obstacle], is_chosen: bool, found: str) -> None:
    about = f"{blocked[0].reason} {blocked[0].hint}" if blocked else f"{known.summary} {found}".strip()
    with st.container(border=True, key=f"method-{'on' if is_chosen else 'off'}-{known.name}", width=212, gap=None):
        st.button(
            known.title, key=f"choose-{known.name}", type="primary" if is_chosen else "tertiary", on_click=_choose, args=(known.name,),
            disabled=bool(blocked), help=plain(about),
        )  # fmt: skip
        st.caption(f":orange[{plain(about)}]" if blocked else plain(about))


def _choose(name: str) -> None:
    state().method = name


def dose_key(name: str) -> str:
    """Where the form keeps a method's dose: one that was chosen for another method means nothing here."""
    return f"fit-dose-{name}"


def rival_keys(of: str) -> tuple[str, str]:
    """Where the form keeps the sentences that ask for the same as a set, and for the opposite."""
    return f"fit-rival-{of}", f"fit-against-{of}"


def form(session: Session, known: Method) -> tuple[dict[str, Any], int, float]:
    """Draw presets and knobs; return the knobs' values, the seed, and the dose at which the fit is measured."""
    from workbench.knobs import knobs

    items, key = knobs(known.config), f"knob-{known.name}"
    if known.presets:
        names = list(known.presets)
        chosen = f"preset-{known.name}"
        # None of them is chosen at first: a list would show its first one, whatever the knobs say.
        few, more = st.segmented_control, partial(st.selectbox, index=None, placeholder="as set below")
        (few if sum(map(len, names)) < 30 else more)(
            "Preset", names, key=chosen, persist_state="session", on_change=lambda: _preset(items, known, chosen, key),
            help="Sets every knob below. *paper* is what the authors published, the first is ours.",
        )  # fmt: skip
    info = session.model.info
    scope.fill(known, key=key, shown=shown, n_layers=info.n_layers, n_heads=info.n_heads)
    values = knob_form(items, key=key, n_layers=info.n_layers) | released_form(known.config, key=key)
    seed = st.number_input(
        "Seed", 0, 2**31 - 1, 0, step=1, key="fit-seed", persist_state="session", help="The same seed gives the same edit."
    )
    at = dose_key(known.name)
    st.session_state.setdefault(at, 1.0)
    dose = dose_slider("Dose", key=at, persist_state="session", help=f"How much of the edit is measured, saved and compared. {HELP}")
    return values, int(seed), dose


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


def _chat_keys(of: str) -> tuple[str, str]:
    """Where the form keeps whether a set is put as chat, and under which system turn."""
    return f"fit-chat-{of}", f"fit-system-{of}"


def set_chat(session: Session, demonstrations: Demonstrations, chat: bool | None, system: str) -> None:
    """Set what `as_chat` shows of a set of texts; call it before the form is drawn."""
    from workbench.workspace.rendering import goes_as_chat

    on, said = _chat_keys(demonstrations.name)
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
    first, (chat_key, system_key) = goes_as_chat(session.model, demonstrations), _chat_keys(demonstrations.name)
    st.session_state.setdefault(chat_key, first)
    on = st.toggle("As chat", key=chat_key, persist_state="session")
    why = "" if first else " Most prompts of this set end in the middle of a sentence, so it is off at first."
    st.caption(plain(f"On: each prompt is one turn of the user, through the {template_name(tokenizer)}. Off: a text to go on with.{why}"))
    if not on:
        return on, ""
    system = st.text_input("System turn", key=system_key, persist_state="session", placeholder="none", help="Stands before each prompt.")
    return on, system.strip()
