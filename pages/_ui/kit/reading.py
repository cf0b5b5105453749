"""A row as the form of Edit would read it: its tokens as the model has them, with those that a fit reads and those that its edit writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.components import token_strip
from pages._ui.kit.methods import method, obstacles
from pages._ui.kit.state import part, state
from workbench.data.demonstrations import Demonstrations
from workbench.errors import RetouchError
from workbench.place import read_place
from workbench.settings import FitSettings

if TYPE_CHECKING:
    from workbench.methods.shared.touched import Touched
    from workbench.session import Prompt, Session

LEGEND = "Solid: read; dashed: written; double: both. A gate or spared tokens may leave some out."


@dataclass
class Form:
    """What the form of Edit said last in this tab: other pages show rows as it would read them."""

    said: FitSettings | None = None


def chat_keys(of: str) -> tuple[str, str]:
    """Where the form of Edit keeps whether a set is put as chat, and under which system turn."""
    return f"fit-chat-{of}", f"fit-system-{of}"


def asked(session: Session, chosen: str, demonstrations: Demonstrations) -> FitSettings:
    """What a fit on a set would be asked for now: by the tab's method, with the knobs and the rendering that its form holds."""
    from workbench.knobs import as_json
    from workbench.methods import names
    from workbench.workspace.rendering import goes_as_chat

    now, said = state(), part(Form).said
    known = now.method if now.method in names() else ""  # a link can name what nobody has
    blocked = {} if known else obstacles(session, demonstrations)
    name = known or next((one for one in blocked if not blocked[one]), next(iter(blocked), ""))
    config, place = (said.config, said.place) if said is not None and said.method == name else (as_json(method(name).config()), "")
    chat, system = (st.session_state.get(key) for key in chat_keys(demonstrations.name))
    chat = goes_as_chat(session.model, demonstrations) if chat is None else bool(chat)
    return FitSettings(name, chosen, config, chat=chat, system=system.strip() if chat and system else "", place=place)


def row_strip(session: Session, row: Demonstrations, side: str, settings: FitSettings, *, key: str, title: str = "") -> str:
    """Draw the tokens of a row's prompt and one of its answers; return in words what is read and written, empty where the knobs do not say.

    Args:
        row: a set of this row alone. side: `positive` or `negative`; one that the row lacks is left out.
    """
    from workbench.methods.shared.touched import touched
    from workbench.workspace.rendering import as_read

    try:
        read = as_read(session.model, row, settings.chat, settings.system)[0]
        tokens, n_prompt = session.token_texts(read.prompt, getattr(read, side) or None)
        found = touched(method(settings.method).configure(settings.config), session.model.info, len(tokens), n_prompt)
        if settings.place:
            found = _placed(session, found, settings.place, read.prompt, getattr(read, side) or None)
    except RetouchError as error:  # the fit will say so too
        st.caption(f":orange[{words.plain(str(error))}]")
        return ""
    if title:
        answer = f", {len(tokens) - n_prompt} of them the answer" if len(tokens) > n_prompt else ""
        st.caption(f"{words.plain(title)}: {len(tokens)} tokens{answer}")
    said = [f"{what} {where}" for what, where in (("reads", found.reads), ("writes", found.writes)) if where]
    if said or title:
        token_strip(tokens, key=key, marks=found.marks, twin=False)
    told = words.listed(said)
    return f"{told[0].upper()}{told[1:]}." if told else ""


def _placed(session: Session, found: Touched, place: str, prompt: Prompt, answer: str | None) -> Touched:
    """The same, written where the edit is told to act. Raises: as `placing.acts_at`."""
    from workbench.methods.shared.touched import acted_on
    from workbench.models.placing import acts_at

    where, n_prompt = read_place(place), len(session.token_texts(prompt)[0])
    ids = session.model.tokens([prompt], None if answer is None else [answer]).ids[0].tolist()
    acts = acts_at(session.model, place, prompt, ids[n_prompt:]) if where.reads_text else acted_on(place, len(ids), n_prompt)
    marks = tuple(" ".join(["read"] * ("read" in mark) + ["write"] * on) for mark, on in zip(found.marks, acts))
    return found._replace(marks=marks, writes=where.label)
