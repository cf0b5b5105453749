"""Edit: the form as JSON, Python and a command. Each is the same setting: what is typed there fills the form, once it can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.edit import methods
from pages._ui.kit import frame
from pages._ui.kit.asked_model import DEVICE, DTYPE, AskedModel
from pages._ui.kit.components import text_editor
from pages._ui.kit.forms import use_values
from pages._ui.kit.methods import method
from pages._ui.kit.place_choice import place_key
from pages._ui.kit.state import part, state
from workbench.errors import BadKnob, RetouchError
from workbench.settings import FitSettings

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.workspace.asked_fit import AskedFit

VIEWS = ("JSON", "Python", "Command")
_DEFAULT_HOME = Path.home() / ".retouch"


@dataclass
class Typed:
    """A text that could not be taken over: where it stands, why, and what the form said meanwhile."""

    view: str = ""
    text: str = ""
    error: RetouchError | None = None
    form: AskedFit | None = None


def panel(session: Session, settings: FitSettings) -> None:
    """The form as a text in one of three languages, to copy or to edit.

    Args:
        settings: what the form says now; its rivals are measured beside the fit, and are no part of it.
    """
    with st.expander("Copy as JSON, Python or a command", key="copy-as", icon=":material/content_copy:"):
        view = st.segmented_control("As", VIEWS, default=VIEWS[0], key="copy-view", label_visibility="collapsed", required=True)
        try:
            asked = asked_of(session, settings)
            text = _languages()[view][0](asked)
        except RetouchError as error:
            frame.problem(error, "copy-as")
            return
        typed = part(Typed)
        if typed.view != view or typed.form != asked:
            typed.error = None
        wrong = typed.error
        text_editor(
            f"The fit as {view}", text if wrong is None else typed.text, key=f"copy-{view}", is_wrong=wrong is not None,
            on_typed=lambda told: _take(session, view, told, asked),
        )  # fmt: skip
        if wrong is not None:
            frame.problem(wrong, "copy-typed")
            st.button("Take the form's again", key="copy-again", on_click=_forget)
        else:
            st.caption("Exactly what the button fits. Type here, and the form follows; sentences as rivals are measured beside the fit.")


def _languages() -> Mapping[str, tuple[Callable[[AskedFit], str], Callable[[str], AskedFit]]]:
    """How each language is written and read."""
    from workbench.cli.fit_command import read_command, written_command
    from workbench.workspace.asked_fit import read_json, read_python, written_json, written_python

    return {"JSON": (written_json, read_json), "Python": (written_python, read_python), "Command": (written_command, read_command)}


def asked_of(session: Session, settings: FitSettings) -> AskedFit:
    """What the form asks for, with the model and the workspace of this tab. Raises: as `AskedFit`."""
    from workbench.workspace.asked_fit import AskedFit

    model, folder = AskedModel.of(state().model), session.workspace.folder
    where: dict[str, Any] = {} if folder == _DEFAULT_HOME else {"workspace": str(folder)}
    return AskedFit.of(settings, model.name, dtype=model.dtype or DTYPE, device=model.device or DEVICE, **where)


def _take(session: Session, view: str, text: str, form: AskedFit) -> None:
    """Fill the form from a text; one that cannot be read stays, with the reason."""
    try:
        fill(session, _languages()[view][1](text), form)
    except RetouchError as error:
        typed = part(Typed)
        typed.view, typed.text, typed.error, typed.form = view, text, error, form
    else:
        _forget()


def fill(session: Session, asked: AskedFit, form: AskedFit) -> None:
    """Set the form to what is asked for; call it before the form is drawn.

    Raises:
        BadKnob: another model or workspace than the tab's, a layer that the model lacks, or a chat rendering that there is no template for.
        UnknownName: no such set. Others: as `check_place`.
    """
    from workbench.knobs import as_json, check_layers, knobs
    from workbench.methods.shared.placed import check_place
    from workbench.models.chat import has_template

    for name in ("model", "dtype", "device", "workspace"):
        now, wanted = getattr(form, name), getattr(asked, name)
        if now != wanted:
            raise BadKnob(f"{name} = {wanted!r}; this form fits with {now!r}.", f"Put {now!r} back, or load the other on Model.")
    rows = session.demos.info(asked.data)
    can_chat = has_template(session.model.tokenizer) and not session.demos(asked.data).is_chat
    if (asked.chat is not None or asked.system) and not can_chat:
        raise BadKnob(
            "chat and system choose how texts are put to the model; there is nothing to choose here.",
            "Leave them out: chat = none, system empty.",
        )
    check_place(method(asked.method), session.model, asked.place)
    known, now, told = method(asked.method), state(), st.session_state
    check_layers(known.configure(asked.config), session.model.info.n_layers)
    now.set_name, now.method = rows.id, asked.method
    use_values(knobs(known.config), as_json(known.configure(asked.config)), key=f"knob-{known.name}")
    told[f"preset-{known.name}"] = None
    told["fit-seed"], told[methods.dose_key(known.name)], told[place_key(known.name)] = asked.seed, asked.dose, asked.place
    if can_chat:
        methods.set_chat(session, session.demos(asked.data), asked.chat, asked.system)


def _forget() -> None:
    part(Typed).error = None
