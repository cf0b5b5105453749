"""The scope: layers, heads and MLPs picked while looking, carried to the form that fits an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from pages._ui.kit import words
from pages._ui.kit.backend import session
from pages._ui.kit.state import part, state
from workbench.knobs import Knob

if TYPE_CHECKING:
    from workbench.methods import Method
    from workbench.methods.registry import Scope as Places
    from workbench.models.base import LanguageModel


# Before the layer of an MLP that was picked.
_MLP = "MLP "


@dataclass
class Handed:
    """What was handed to the form: places for any method, or knobs of one; `filled` names the methods whose forms have taken it over."""

    layers: tuple[int, ...] = ()
    heads: tuple[str, ...] = ()
    mlps: tuple[int, ...] = ()
    method: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = "Inspect"
    said: str = ""
    filled: set[str] = field(default_factory=set)

    @property
    def words(self) -> str:
        if self.said:
            return self.said
        parts = [_told("layer", map(str, self.layers)), _told("head", self.heads), _told("MLP", map(str, self.mlps))]
        parts += [f"{name.replace('_', ' ')} = {_plain(value)}" for name, value in self.values.items()]
        return words.listed([part for part in parts if part])


@dataclass
class Scope:
    """What this tab has picked, and what it has handed to the form."""

    picked: frozenset[str] = frozenset()
    handed: Handed | None = None


def _plain(value: object) -> str:
    return ", ".join(map(str, cast("Sequence[object]", value))) if isinstance(value, (list, tuple)) else str(value)


def _told(what: str, names: Iterable[str]) -> str:
    listed = list(names)
    return f"{what}{'' if len(listed) == 1 else 's'} {', '.join(listed)}" if listed else ""


def picked() -> list[str]:
    """The picked addresses, `2` a layer, `3.5` a head, `MLP 3` an MLP, in their order in the network."""
    return sorted(part(Scope).picked, key=_order)


def _order(name: str) -> tuple[int, bool, int]:
    layer, _, head = name.removeprefix(_MLP).partition(".")
    return int(layer), name.startswith(_MLP), int(head or -1)


def add(*addresses: str) -> None:
    """Put layers, heads or MLPs into the scope; the tab's layer is that of the last one."""
    part(Scope).picked |= set(addresses)
    if addresses:
        state().layer = _order(addresses[-1])[0]


def remove(address: str) -> None:
    """Take one out."""
    part(Scope).picked -= {address}


def clear() -> None:
    """Take everything out."""
    part(Scope).picked = frozenset()


def hand_over(addresses: Sequence[str]) -> None:
    """Give places to the Edit page's form; heads and MLPs alone choose a method that acts on these alone, unless the tab's own does."""
    layers = tuple(int(name) for name in addresses if name.isdigit())
    heads = tuple(name for name in addresses if "." in name)
    mlps = tuple(int(name.removeprefix(_MLP)) for name in addresses if name.startswith(_MLP))
    part(Scope).handed = Handed(layers=layers, heads=heads, mlps=mlps)
    if addresses:
        state().layer = layers[0] if layers else _order(addresses[0])[0]
    if addresses and not layers:
        able = [method.name for method in _able(_places(heads, mlps))]
        state().method = state().method if state().method in able else next(iter(able), state().method)


def _able(places: Places) -> tuple[Method, ...]:
    """The methods that act on just these heads and MLPs."""
    from workbench.methods.shared.held import held_by

    opened = session()
    return () if opened is None else held_by(opened.model, places)


def _places(heads: Sequence[str], mlps: Sequence[int] = (), layers: Sequence[int] = ()) -> Places:
    from workbench.methods.registry import Scope as Places

    pairs = [(int(layer), int(head)) for layer, _, head in (name.partition(".") for name in heads)]
    return Places(tuple(layers), tuple(pairs), tuple(mlps))


def hand_knobs(method: str, values: Mapping[str, Any], source: str, *, said: str = "") -> None:
    """Give knobs of one method to the Edit page's form; `said` names those that matter, where they are many."""
    part(Scope).handed = Handed(method=method, values=dict(values), source=source, said=said)
    state().method = method


def verbs(layer: int, head: int | None = None, *, key: str, mlp: bool = False) -> None:
    """The buttons of a picked cell: add it to the scope, or fit an edit there at once. `mlp`: it is that layer's MLP."""
    name = f"{_MLP}{layer}" if mlp else str(layer) if head is None else f"{layer}.{head}"
    what = _what(name)
    with st.container(horizontal=True):
        st.button("In scope" if name in picked() else f"Add {what} to scope", key=f"{key}-add", on_click=add, args=(name,),
                  disabled=name in picked(), icon=":material/add:")  # fmt: skip
        if st.button(f"Fit an edit at {what}", key=f"{key}-fit"):
            hand_over([name])
            st.switch_page("pages/edit.py")


def _what(name: str) -> str:
    return name if name.startswith(_MLP) else f"head {name}" if "." in name else f"layer {name}"


def tray() -> None:
    """The scope at the foot of a page: what is in it, and the way to the form."""
    names = picked()
    with st.container(border=True, key="scope-tray"), st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Scope**")
        if not names:
            st.caption("Empty. Pick a cell above and add its layer or head; the form on Edit starts from what is here.")
            return
        for name in names:
            icon = ":material/close:"
            st.button(_what(name), key=f"scope-{name}", icon=icon, type="tertiary", on_click=remove, args=(name,), help="Take it out.")
        st.button("Clear", key="scope-clear", on_click=clear)
        if st.button("Fit an edit here", key="scope-fit", type="primary"):
            hand_over(names)
            st.switch_page("pages/edit.py")


def fill(method: Method, *, key: str, shown: Callable[[Knob, Any], Any], model: LanguageModel) -> None:
    """Set the form's layers and heads to what was handed over, once a method, and say so above the form.

    Args:
        shown: a knob's value as its widget holds it. model: places that it lacks are left out.
    """
    handed = part(Scope).handed
    if handed is None or handed.method not in ("", method.name):
        return
    from workbench.knobs import COMPAT, as_json, compat_of, knobs, renamed

    items, compat = knobs(method.config), compat_of(method.config)
    wanted = renamed(method.config, handed.values) if handed.method else _wanted(method, handed, model.info.n_layers, model.info.n_heads)
    values = {f"{key}-{knob.name}": shown(knob, wanted[knob.name]) for knob in items if knob.name in wanted}
    values |= {f"{key}-{COMPAT}": wanted[COMPAT]} if COMPAT in wanted else {}
    if method.name not in handed.filled:
        handed.filled.add(method.name)
        st.session_state.update(values)
    with st.container(horizontal=True, vertical_alignment="center", key="handed"):
        if not values:
            st.caption(f"From {handed.source}: {handed.words}. This method has no knob for them, or the model has no such place.")
        elif all(st.session_state.get(name) == value for name, value in values.items()):
            st.caption(f"From {handed.source}: {handed.words}.{_widened(method, handed, model)}")
        else:
            st.button(f"Use {handed.words} from {handed.source}", key="handed-use", on_click=st.session_state.update, args=(values,))
        defaults = {f"{key}-{knob.name}": shown(knob, knob.default) for knob in items if knob.name in wanted}
        defaults |= {f"{key}-{COMPAT}": as_json(compat.ours)} if compat is not None and COMPAT in wanted else {}
        st.button("Forget", key="handed-forget", type="tertiary", on_click=_forget, args=(defaults,))


def _widened(method: Method, handed: Handed, model: LanguageModel) -> str:
    """That an edit by a method changes more or less than the heads and MLPs that were handed over, and which methods change just these."""
    from workbench.methods.shared.held import beyond

    places = _places(handed.heads, handed.mlps, handed.layers)
    why = None if handed.method else beyond(method, model, places)
    if why is None:
        return ""
    others = words.listed([one.title for one in _able(_places(handed.heads, handed.mlps))])
    return f" {why.reason} {why.hint if handed.layers or not others else f'Just these are changed by {others}.'}"


def _wanted(method: Method, handed: Handed, n_layers: int, n_heads: int) -> Mapping[str, Any]:
    """What the method makes of the places, less those that the model lacks."""
    told = _places(handed.heads).heads
    heads = [f"{layer}.{head}" for layer, head in told if layer < n_layers and head < n_heads]
    layers, mlps = ([layer for layer in some if layer < n_layers] for some in (handed.layers, handed.mlps))
    found = _places(heads, mlps, layers)
    return method.scopes(found) if found.blocks else {}


def _forget(defaults: dict[str, Any]) -> None:
    part(Scope).handed = None
    st.session_state.update(defaults)
