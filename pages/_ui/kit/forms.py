"""Forms made from knobs: the main ones at once, the rest under *More*. Nothing here knows a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from workbench.knobs import Knob

AUTO = "choose for me"
# A slider is kinder than a number field while its steps can be hit with a pointer.
_SLIDER_STEPS = 200


def knob_form(
    knobs: Sequence[Knob], *, key: str, n_layers: int | None = None, after: Callable[[], None] | None = None,
    more: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw the form of some knobs and return its values by name. A knob that a dose stands for is not drawn, and keeps its value.

    Args:
        n_layers: makes the knob `layers` a choice of layer numbers.
        after: draws what belongs to the main knobs and is none. more: draws what stands last under *More*, and returns its values.
    """
    drawn = [knob for knob in knobs if not knob.is_dose]
    main = [knob for knob in drawn if knob.main] or drawn[:3]
    rest = [knob for knob in drawn if knob not in main]
    values = {knob.name: held(knob, key=key) for knob in knobs if knob.is_dose}
    values |= {knob.name: _field(knob, _key(key, knob), n_layers) for knob in main}
    if after is not None:
        after()
    if rest or more is not None:
        with st.expander(f"More ({len(rest)})", key=f"{key}-more"):
            values |= {knob.name: _field(knob, _key(key, knob), n_layers) for knob in rest}
            values |= {} if more is None else more()
    return values


def held(knob: Knob, *, key: str) -> Any:
    """The value of a knob that the form keeps and does not draw."""
    return st.session_state.get(_key(key, knob), knob.default)


def put(knob: Knob, value: Any, *, key: str) -> None:
    """Set one knob of the form; call it before the form is drawn."""
    st.session_state[_key(key, knob)] = shown(knob, value)


def released_form(config: type, *, key: str, is_asked: bool = True) -> dict[str, Any]:
    """Draw one line: whether to do as the released code does, with what that means; return the record `compat`, or nothing.

    Args:
        is_asked: draw the line also where the record is ours; else it stands only while something is as released.
    """
    from workbench.knobs import COMPAT, as_json, compat_of

    compat = compat_of(config)
    if compat is None:
        return {}
    at, switch = f"{key}-{COMPAT}", f"{key}-as-released"
    ours, official = as_json(compat.ours), as_json(compat.official)
    record = st.session_state.setdefault(at, ours)
    told = compat.words(record)
    if not (told or is_asked):
        return {COMPAT: record}
    # The switch follows the record, which presets and handed settings set too.
    st.session_state[switch] = bool(told)
    st.toggle(
        "As released", key=switch, on_change=lambda: st.session_state.update({at: official if st.session_state[switch] else ours}),
        help=f"Do as the authors' released code does, its defects included: {compat.words(official)}.",
    )  # fmt: skip
    if told:
        st.caption(f"As released: {told}.")
    return {COMPAT: record}


def use_values(knobs: Sequence[Knob], values: Mapping[str, Any], *, key: str) -> None:
    """Set the form to the values of a whole config; call it from a callback, before the form is drawn."""
    for knob in knobs:
        put(knob, values[knob.name], key=key)
    if "compat" in values:
        st.session_state[f"{key}-compat"] = values["compat"]


def _key(key: str, knob: Knob) -> str:
    return f"{key}-{knob.name}"


def shown(knob: Knob, value: Any) -> Any:
    """A knob's value as its widget holds it."""
    if knob.choices is not None:
        return AUTO if value is None else value
    if knob.kind in ("ints", "floats", "texts"):
        if knob.name == "layers":
            return [] if value is None else list(value)
        return "" if value is None else ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    if knob.kind == "float":
        return None if value is None else float(value)
    return value


def _label(knob: Knob) -> str:
    said = knob.unit.lower() in knob.label.lower()  # "Steps at least (steps)" would say it twice
    return knob.label + ("" if said else f" ({knob.unit})")


def _help(knob: Knob) -> str:
    span = "" if knob.bounds is None or knob.kind == "ints" else f" From {knob.bounds[0]:g} to {knob.bounds[1]:g}."
    symbol = f" In the paper: {knob.symbol}." if knob.symbol else ""
    return f"{knob.help}{span}{symbol}"


def _field(knob: Knob, key: str, n_layers: int | None) -> Any:
    if key not in st.session_state:
        st.session_state[key] = shown(knob, knob.default)
    draw: Callable[[Knob, str, int | None], Any] = {
        "bool": _switch,
        "int": _whole,
        "float": _real,
        "ints": _several,
        "floats": _several,
        "texts": _several,
    }.get(knob.kind, _text)
    return _choice(knob, key) if knob.choices is not None else draw(knob, key, n_layers)


def _choice(knob: Knob, key: str) -> Any:
    options = [*([AUTO] if knob.optional else []), *(knob.choices or ())]
    if sum(map(len, options)) <= 26:
        value = st.segmented_control(_label(knob), options, key=key, help=_help(knob), required=True, persist_state="session")
    else:
        value = st.selectbox(_label(knob), options, key=key, help=_help(knob), persist_state="session")
    return None if value == AUTO else value


def _switch(knob: Knob, key: str, _: int | None) -> Any:
    return st.toggle(_label(knob), key=key, help=_help(knob), persist_state="session")


def _whole(knob: Knob, key: str, _: int | None) -> Any:
    low, high = (None, None) if knob.bounds is None else map(int, knob.bounds)
    return st.number_input(
        _label(knob), low, high, step=1, key=key, help=_help(knob), placeholder=AUTO if knob.optional else "", persist_state="session"
    )


def _real(knob: Knob, key: str, _: int | None) -> Any:
    low, high = (None, None) if knob.bounds is None else knob.bounds
    step = _step(knob)
    if low is not None and high is not None and not knob.optional and (high - low) / step <= _SLIDER_STEPS:
        return st.slider(_label(knob), low, high, step=step, key=key, help=_help(knob), persist_state="session")
    return st.number_input(
        _label(knob), low, high, step=step, format="%g", key=key, help=_help(knob), placeholder=AUTO if knob.optional else "",
        persist_state="session",
    )  # fmt: skip


def _step(knob: Knob) -> float:
    """A step that the default is a multiple of: 0.99 wants 0.01, 0.998 wants 0.001, 2.0 wants 0.1."""
    text = f"{knob.default:g}" if isinstance(knob.default, float) else "0.01"
    if "e" in text:
        return float(f"1e{text.split('e')[1]}")
    return min(0.1, 10.0 ** -len(text.partition(".")[2])) if knob.bounds is None or knob.bounds[1] - knob.bounds[0] < 50 else 1.0


def _several(knob: Knob, key: str, n_layers: int | None) -> Any:
    if knob.name == "layers" and n_layers is not None:
        chosen = st.multiselect(
            _label(knob),
            range(n_layers),
            key=key,
            help=_help(knob),
            placeholder=AUTO if knob.optional else "Pick layers",
            persist_state="session",
        )
        return tuple(sorted(chosen)) or (None if knob.optional else ())
    text = st.text_input(
        _label(knob), key=key, help=f"{_help(knob)} Values with commas between them.", placeholder=AUTO if knob.optional else "",
        persist_state="session",
    )  # fmt: skip
    return text if text or not knob.optional else None


def _text(knob: Knob, key: str, _: int | None) -> Any:
    text = st.text_input(_label(knob), key=key, help=_help(knob), placeholder=AUTO if knob.optional else "", persist_state="session")
    return None if not text and knob.optional else text
