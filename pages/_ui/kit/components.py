"""Two small clickable pictures, each with a plain-widget twin for keyboard and screen reader: a token strip and a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from streamlit.components import v2

from pages._ui.kit import words
from pages._ui.kit.frame import is_dark
from pages._ui.kit.person import COOKIE, word
from workbench.resources import COMPONENTS

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

Place = TypeVar("Place")
# Beyond this a picture is windowed: more cells than anybody reads, and slow to draw.
MAX_TOKENS, MAX_ROWS, MAX_COLUMNS = 400, 50, 100
# Lines that are tokens, by the word of their selector.
_TOKENS = ("Token", "From", "To")


@dataclass(frozen=True)
class Bars:
    """Part of a token's card: a title, a colour, and (token, share) rows."""

    title: str
    rows: tuple[tuple[str, float], ...]
    colour: str = ""


def _component(name: str, html: str) -> ComponentRenderer:
    js, css = ((COMPONENTS / f"{name}.{ending}").read_text(encoding="utf-8") for ending in ("js", "css"))
    return v2.component(f"retouch_{name}", html=html, js=js, css=css)


_DRAG_LINES = v2.component("retouch_drag_lines", js=(COMPONENTS / "drag_lines.js").read_text(encoding="utf-8"))
_BROWSER = v2.component("retouch_browser", js=(COMPONENTS / "browser.js").read_text(encoding="utf-8"))


def token_strip(
    tokens: Sequence[str],
    *,
    key: str,
    values: Sequence[float | None] | None = None,
    signed: bool = False,
    marks: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
    cards: Sequence[Sequence[Bars]] | None = None,
    start: int = 0,
    twin: bool = True,
    prose: Sequence[str] | None = None,
) -> int | None:
    """Draw tokens with colours and marks; return the index of the pinned one, or None.

    Args:
        values: in [-1, 1] (`signed`: blue below zero, vermilion above) or [0, 1]; None leaves a token plain.
        marks: words among `read`, `write`, `new`, `faint`, a token each.
        notes: a short text a token, in its card and for screen readers.
        cards: bars a token, for instance the top five of base and lane.
        start: the token around which a long text is shown at first.
        twin: add the selector that does the same as a click.
        prose: what stands for each token, so that text reads as text; each shows itself under the pointer.
    """
    left, n = _window(len(tokens), MAX_TOKENS, start, f"{key}-from-{len(tokens)}", "Token")
    across = range(left, left + n)
    at = pinned(key, len(tokens))
    shown = {i: words.token(tokens[i]) for i in across}
    data = {
        "tokens": list(shown.values()),
        "texts": None if prose is None else [prose[i] for i in across],
        "values": None if values is None else [values[i] for i in across],
        "signed": signed,
        "marks": None if marks is None else [marks[i] for i in across],
        "notes": None if notes is None else [notes[i] for i in across],
        "cards": None if cards is None else [[asdict(part) for part in cards[i]] for i in across],
        "offset": left,
        "pinned": at - left if at is not None and at in across else None,
    }
    st.session_state[f"{key}-drawn"] = _clicked(key, "pinned")
    strip = _component("token_strip", '<div class="frame"><div class="strip"></div><div class="card" hidden></div></div>')
    strip(data=data, key=key, on_pinned_change=_nothing)
    if twin and n:
        st.selectbox(
            "Token", across, index=None, format_func=lambda i: f"{i}  {shown[i]}", key=f"{key}-twin", placeholder="Pick a token",
            label_visibility="collapsed",
        )  # fmt: skip
    return at


def pinned(key: str, n: int) -> int | None:
    """Which of its `n` tokens a strip pins, known before it is drawn: its colours may depend on it. None: none, or one that is gone."""
    at = _newest(f"{key}-pinned", _clicked(key, "pinned"), st.session_state.get(f"{key}-drawn"), _twin_value(f"{key}-twin", n))
    return at if at is not None and at < n else None


def grid(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    key: str,
    texts: Sequence[Sequence[str]] | None = None,
    hover: Sequence[Sequence[str]] | None = None,
    signed: bool = False,
    scale: float | None = None,
    faint: Sequence[Sequence[bool]] | None = None,
    start: int = 0,
    offset: int = 0,
    corner: str = "",
    row_word: str = "Layer",
    column_word: str = "Token",
) -> tuple[int, int] | None:
    """Draw a grid of coloured cells; return (row, column) of the picked one, or None.

    Args:
        values: colours: [0, 1], or [-1, 1] when `signed`, after division by `scale`.
        texts: what stands in the cells; `hover`: what the pointer and screen readers get; `faint`: cells that recede.
        start: the column that is scrolled into view at first. offset: what the first column counts as.
        row_word, column_word: labels of the two selectors that do the same as a click.
    """
    top, n = _window(len(rows), MAX_ROWS, 0, f"{key}-rows", row_word)
    left, m = _window(len(columns), MAX_COLUMNS, start or len(columns) - 1, f"{key}-columns", column_word)
    down, across = range(top, top + n), range(left, left + m)
    told: list[Any] = [st.session_state.get(f"{key}-{side}") for side in ("row", "column")]
    chosen = (int(told[0]), int(told[1])) if told[0] in down and told[1] in across else None
    cell = _clicked(key, "picked")
    clicked = (int(cell[0]), int(cell[1])) if cell and cell != st.session_state.get(f"{key}-drawn") else None
    picked = _newest(f"{key}-picked", clicked, None, chosen)
    if picked is not None and not (picked[0] in down and picked[1] in across):
        picked = None
    st.session_state[f"{key}-drawn"] = cell
    data = {
        "rows": [words.token(rows[i]) for i in down],
        "columns": [words.token(columns[j]) for j in across],
        "named": [[_named(rows[i], row_word, i) for i in down], [_named(columns[j], column_word, offset + j) for j in across]],
        "values": [list(line[left : left + m]) for line in values[top : top + n]],
        "texts": None if texts is None else [[words.token(text) for text in line[left : left + m]] for line in texts[top : top + n]],
        "hover": None if hover is None else [list(line[left : left + m]) for line in hover[top : top + n]],
        "faint": None if faint is None else [list(line[left : left + m]) for line in faint[top : top + n]],
        "signed": signed,
        "start": max(0, min(start - left, m - 1)),
        "scale": scale,
        "corner": corner,
        "origin": [top, left],
        "picked": None if picked is None else [picked[0] - top, picked[1] - left],
    }
    _component("grid", '<div class="scroll"></div>')(data=data, key=key, on_picked_change=_nothing)
    with st.container(horizontal=True, key=f"{key}-twins"):
        st.selectbox(row_word, down, index=None, format_func=lambda i: str(rows[i]), key=f"{key}-row", placeholder="Pick", width=160)
        st.selectbox(
            column_word, across, index=None, key=f"{key}-column",
            format_func=[text if text == str(j) else f"{offset + j}  {words.token(text)}" for j, text in enumerate(columns)].__getitem__,
            placeholder="Pick", width=200,
        )  # fmt: skip
    return picked


def _named(text: str, word: str, at: int) -> str:
    """A line of a grid in its cells' names: a number says of what, a token says which of its like it is."""
    if text == str(at):
        return f"{word.split()[0].lower()} {at}"
    return f"{word.lower()} {at} {words.token(text)}" if word in _TOKENS else words.token(text)


def _window(n: int, most: int, seen: int, key: str, word: str) -> tuple[int, int]:
    """The first line that is shown and how many are, chosen where there are more than `most`; at first those around `seen`."""
    if n <= most:
        return 0, n
    starts = [*range(0, n - most, most), n - most]
    begin = max(first for first in starts if first <= seen)
    told = st.select_slider(
        f"{word}s {most} at a time", starts, begin, format_func=lambda i: f"{i} to {i + most - 1} of {n}", key=key, width=320
    )
    return told, most


def text_editor(label: str, text: str, *, key: str, is_wrong: bool, on_typed: Callable[[str], None]) -> None:
    """Draw a text to edit and to copy; `on_typed` gets it a moment after the last key, before the page is drawn anew.

    Args:
        is_wrong: mark it as one that could not be taken over.
    """
    draw = _component("text_editor", '<div class="frame"><textarea spellcheck="false" rows="3"></textarea><button>Copy</button></div>')
    draw(
        data={"text": text, "label": label, "wrong": is_wrong}, key=key, on_typed_change=lambda: on_typed(str(_clicked(key, "typed") or ""))
    )


def drag_lines(figure: str, told: object, *, key: str, on_moved: Callable[[int, float], None]) -> None:
    """Listen to the lines of a figure that can be dragged (`figure_panel`, `drags`); `on_moved` gets which one was let go, in the order in
    which they were added, and where on the x axis, before the page is drawn anew.

    Args:
        figure: the figure's container. told: what the figure is drawn from: it is looked for again when that changes.
    """

    def moved() -> None:
        found = _clicked(key, "moved")
        if found is not None:
            on_moved(int(found[0]), float(found[1]))

    _DRAG_LINES(data={"figure": figure, "told": told}, key=key, on_moved_change=moved)


def _twin_value(key: str, size: int) -> int | None:
    value = st.session_state.get(key)
    return value if isinstance(value, int) and value < size else None


def _clicked(key: str, what: str) -> Any:
    """What the component in the browser holds."""
    return (st.session_state.get(key) or {}).get(what)


def _newest(key: str, clicked: Place | None, drawn: Place | None, chosen: Place | None) -> Place | None:
    """Which of click and selector changed last; remembered under `key`."""
    before: dict[str, Place | None] = st.session_state.get(key, {"value": None, "chosen": None})
    value = before["value"]
    if chosen is not None and chosen != before["chosen"]:
        value = chosen
    if clicked is not None and clicked != drawn:
        value = clicked
    st.session_state[key] = {"value": value, "chosen": chosen}
    return value


def _nothing() -> None:
    """Components need a callback for a state to be known; the value is read from session_state."""


def browser(page: str, shows: Sequence[object] = ()) -> None:
    """Close the menu of a narrow screen once another page is chosen, let Back go back, draw anew when the theme turns, and remember
    who is here. Draw it in the sidebar.

    shows: a number that is new each time, and the keys of buttons that a lesson presses one after the other, as a person would;
    `key=Word` is the button of that word within the key.
    """
    is_known = COOKIE in st.context.cookies
    told = {"page": page, "cookie": "" if is_known else f"{COOKIE}={word()}", "shows": list(shows), "dark": is_dark()}
    _BROWSER(key="browser", data=told, on_theme_change=_nothing)
