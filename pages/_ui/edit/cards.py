"""Edit: a card a method, in whole sentences; one that cannot run here is grey, with its reason and the way out a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, loading
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.methods import method, obstacles
from pages._ui.kit.state import part, state
from pages._ui.kit.words import listed, plain
from workbench.data.demonstrations import Demonstrations
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.methods.registry import Method
    from workbench.methods.shared.needs import Obstacle
    from workbench.session import Session


_FIRST = 4
"""Cards that are open at first: those that a newcomer meets first, of which a row holds so many."""


@dataclass
class Stuck:
    """The method for which no way out was found, and why."""

    method: str = ""
    error: RetouchError | None = None


def cards(session: Session, demonstrations: Demonstrations) -> str:
    """Draw the cards; return the chosen method's name, which may be one that cannot run here."""
    now, blocked = state(), obstacles(session, demonstrations)
    if now.method not in blocked:
        now.method = next((name for name in blocked if not blocked[name]), next(iter(blocked)))
    here = [name for name in blocked if not blocked[name]][:_FIRST]
    here += [now.method] * (now.method not in here)
    with st.container(horizontal=True, key="methods", gap="xsmall"):
        for name in here:
            _card(session, method(name), blocked[name], is_chosen=name == now.method)
    others = sorted((name for name in blocked if name not in here), key=lambda name: bool(blocked[name]))
    if others:
        parts = (("", [name for name in others if not blocked[name]]), ("not here: ", [name for name in others if blocked[name]]))
        titles = "; ".join(f"{said}{listed([method(name).title for name in names])}" for said, names in parts if names)
        apart = st.expander(f"More methods: {plain(titles)}", key="methods-more")
        with apart, st.container(horizontal=True, key="methods-not", gap="xsmall"):
            for name in others:
                _card(session, method(name), blocked[name], is_chosen=False)
    return now.method


def _card(session: Session, known: Method, blocked: Sequence[Obstacle], *, is_chosen: bool) -> None:
    with st.container(border=True, key=f"method-{'on' if is_chosen else 'off'}-{known.name}", width=230, gap=None):
        st.button(
            known.title, key=f"choose-{known.name}", type="primary" if is_chosen else "tertiary", on_click=_choose, args=(known.name,),
            disabled=bool(blocked), help=plain(known.paper),
        )  # fmt: skip
        st.caption(plain(known.summary))
        if blocked:
            st.caption(f":orange[{plain(blocked[0].reason)}] {plain(blocked[0].hint)}")
            _way_out(session, known)
            return
        with st.container(key=f"needs-{known.name}"):
            st.caption(plain(f"{known.needs.in_words} {_cost(known)} {_found(session, known.name)}".strip()))


def _cost(known: Method) -> str:
    return f"{known.cost[0].upper()}{known.cost[1:]}." if known.cost else "A fit takes a second or so."


def _found(session: Session, name: str) -> str:
    """What the method was found to do on a real model; of the embedded ones the cards of their own tell."""
    from workbench.methods.shared.evidence import evidence
    from workbench.models.catalog import EMBEDDED

    return "" if session.model.info.name in EMBEDDED else evidence(name)


def _choose(name: str) -> None:
    state().method = name


def _way_out(session: Session, known: Method) -> None:
    from workbench.workspace.ways_out import model_way_out

    other = model_way_out(known, session.model)
    label = f"Load {other}" if other else "Take a set that it can use"
    st.button(label, key=f"way-{known.name}", on_click=_go, args=(session, known), icon=":material/arrow_forward:", type="tertiary")
    stuck = part(Stuck)
    if stuck.method == known.name and stuck.error is not None:
        frame.problem(stuck.error, f"way-{known.name}")


def _go(session: Session, known: Method) -> None:
    """Take the way out: load the model, or take the set; the method is chosen either way."""
    from workbench.workspace.ways_out import way_out

    part(Stuck).method, part(Stuck).error = known.name, None
    try:
        found = way_out(known, session.model, session.demos)
    except RetouchError as error:
        part(Stuck).error = error
        return
    state().method = known.name
    if found.model:
        loading.load(AskedModel(found.model))
    else:
        state().set_name = found.data
