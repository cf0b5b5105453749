"""The frame of a page: title and question, empty and failed states, chips, the sentence that says what a picture means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Literal, Required, TypedDict, TypeVarTuple, Unpack

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage

from pages._ui.kit.glossary import tip
from pages._ui.kit.state import state
from pages._ui.kit.words import plain, safe
from workbench.resources import STYLES

LOGO = STYLES / "logo.svg"
# A file of our own: the browser would fetch a named symbol from a font service, and Retouch is used offline.
ICON = STYLES / "icon.svg"
_BASE = "#6B7280"
LANE_COLOURS = (_BASE, "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
LANE_KEYS = ("base", "a", "b", "c", "d", "e")
Said = TypeVarTuple("Said")


class Look(TypedDict, total=False):
    """How a button of `act` looks: what `st.button` takes."""

    key: Required[str]
    type: Literal["primary", "secondary", "tertiary"]
    help: str
    disabled: bool
    width: Literal["stretch", "content"]


def styles() -> None:
    """Put our few style rules on the page."""
    st.html(STYLES / "app.css")


_drawn = threading.Event()
_ASKED = "asked-page"


def enter(menu: Sequence[StreamlitPage]) -> None:
    """Note that the app has drawn its menu; go on to the page that was asked for before it had."""
    _drawn.set()
    asked = st.session_state.pop(_ASKED, None)
    if asked is not None:
        st.switch_page(next(item for item in menu if item.title == asked))


def ask_for(title: str) -> None:
    """Go to a page once this run's callbacks are through: for callbacks, which cannot switch pages themselves."""
    st.session_state[_ASKED] = title


def page(title: str, question: str) -> None:
    """Draw the title and the question that the page answers."""
    if not _drawn.is_set():
        # A server's very first visit to a page's own address (a reload after a restart, a shared link): Streamlit runs the file
        # of that page alone, without the app around it, as long as no app has named its pages.
        state()
        st.session_state[_ASKED] = title
        st.switch_page("app.py")
    st.title(title, anchor=False)
    with st.container(key=f"question-{_slug(title)}"):
        st.markdown(question)
    wrong, state().bad_link = state().bad_link, None
    if wrong is not None:
        problem(wrong, "link")


def act(label: str, do: Callable[[*Said], object], *said: *Said, **look: Unpack[Look]) -> None:
    """Draw a button that does something with what the controls say now.

    A button's callback gets the arguments of the run before: what was typed just before the click would be lost.
    """
    if st.button(label, **look):
        do(*said)
        st.rerun()


def problem(error: BaseException, key: str) -> None:
    """Show an error where the action was: what happened in one sentence, what to do, details on demand."""
    with st.container(key=f"problem-{key}"):
        hint = getattr(error, "hint", "")
        st.text(str(error) if hint else "Something went wrong that Retouch did not foresee.")
        if hint:
            st.caption(plain(hint))
        else:
            with st.popover("Details", type="tertiary"):
                st.text(f"{type(error).__name__}: {error}")


def empty(what: str, how: str = "", key: str = "page") -> DeltaGenerator:
    """Say what will appear here and how to get it; returns the container for a button."""
    box = st.container(border=True, key=f"empty-{key}")
    with box:
        st.markdown(what, help=tip(what))
        if how:
            st.caption(how)
    return box


def meaning(text: str, key: str) -> None:
    """What the picture means, in one sentence; its technical words are told by its tooltip."""
    with st.container(key=f"meaning-{key}"):
        st.markdown(text, help=tip(text))


def source(text: str, key: str, *above: str) -> None:
    """Where a number or picture is from, in small print; the tooltip tells its technical words and those of what stands above."""
    with st.container(key=f"provenance-{key}"):
        st.markdown(plain(text).replace("\\·", "·"), help=tip(*above, text))


def lane_chip(index: int, name: str, dose: float | None = None) -> str:
    """HTML of a lane's chip: its colour, its letter, its name."""
    letter = "·" if index == 0 else "ABCDE"[(index - 1) % 5]
    text = safe(name) + ("" if dose is None else f" ×{dose:g}")
    return f'<span class="chip"><b style="background:{LANE_COLOURS[index % 6]}">{letter}</b><span class="name">{text}</span></span>'


def lane_chips(names: Sequence[tuple[str, float | None]]) -> None:
    """Draw the chips of some lanes, the first being the untouched model."""
    st.html("".join(lane_chip(i, name, dose) for i, (name, dose) in enumerate(names)))


def check_chip(title: str, n: int, *, is_judged: bool = True) -> str:
    """HTML of a check's chip: grey where too few rows tell, green and quiet at 0, amber with its count else."""
    kind, sign = ("amber", str(n)) if n else ("green", "✓") if is_judged else ("grey", "–")
    return f'<span class="chip {kind}"><b>{sign}</b><span class="name">{safe(title)}</span></span>'


@contextmanager
def lane_box(index: int, key: str) -> Generator[None]:
    """A bordered column in a lane's colour."""
    with st.container(border=True, key=f"lane-{LANE_KEYS[index % 6]}-{key}"):
        yield


def is_dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def _slug(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())
