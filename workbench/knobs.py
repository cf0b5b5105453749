"""Knobs: dataclass fields with the metadata from which forms, command-line flags, cards and docs are made.

@dataclass(frozen=True)
class SeaConfig:
    keep: float = knob(0.99, label="Share kept", help="…", bounds=(0.5, 1.0), symbol="K")
    compat: SeaCompat = as_released(OFFICIAL)

What only reproduces the defects of code that a paper's authors released stands in a record of its own, the field `compat`: a frozen
dataclass of knobs whose defaults are ours, and one instance of it, OFFICIAL, that has them as released. A value is given as `compat`
(official, ours, or the record's values by name) or switch by switch, as `compat.se_inverse`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from workbench.errors import BadKnob, UnknownKnob

ConfigT = TypeVar("ConfigT")
COMPAT = "compat"
_KEY, _OFFICIAL = "knob", "official"
_WORDS = ("ours", "official")


@dataclass(frozen=True)
class Knob:
    """What a person needs to know about one setting of a method.

    `main` marks the few that a form shows at once. `bounds` are inclusive. `choices` are the allowed texts. `kind` is the Python type
    that the value has: int, float, bool, str, or "ints"/"texts" for tuples; `optional` says that None ("choose for me") is allowed.
    `names_layers`: the value is a layer of the model, or several, counted from 0. `is_dose`: a dose does the same, so a form asks for one
    of the two.
    """

    name: str
    kind: str
    default: Any
    label: str
    help: str
    optional: bool
    symbol: str
    unit: str
    bounds: tuple[float, float] | None
    choices: tuple[str, ...] | None
    main: bool
    names_layers: bool
    is_dose: bool


def knob(
    default: Any,
    *,
    label: str,
    help: str,  # noqa: A002 - the field's own word
    symbol: str = "",
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    main: bool = False,
    names_layers: bool = False,
    is_dose: bool = False,
) -> Any:
    """Return a dataclass field that carries a knob's metadata."""
    meta = {"label": label, "help": help, "symbol": symbol, "unit": unit, "bounds": bounds, "main": main}
    return dataclasses.field(default=default, metadata={_KEY: {**meta, "names_layers": names_layers, "is_dose": is_dose}})


@dataclass(frozen=True)
class Compat:
    """The switches of a config between our law and the released code's, with their values in both."""

    switches: tuple[Knob, ...]
    ours: Any
    official: Any

    def words(self, record: Mapping[str, object]) -> str:
        """What a record's values by name do otherwise than we do, as `norm = feature, restore_sign = False`; empty for ours."""
        return ", ".join(f"{name} = {record[name]}" for name, ours in as_json(self.ours).items() if record.get(name, ours) != ours)


def as_released(official: object) -> Any:
    """Return the dataclass field `compat`: ours by default, `official` where the released code is asked for."""
    return dataclasses.field(default=type(official)(), metadata={_OFFICIAL: official})


@cache
def compat_of(config: type) -> Compat | None:
    """Return the switches of a config class; None where it has no such record."""
    for field in dataclasses.fields(config):
        if _OFFICIAL in field.metadata:
            return Compat(knobs(type(field.default)), field.default, field.metadata[_OFFICIAL])
    return None


@cache
def knobs(config: type) -> tuple[Knob, ...]:
    """Return the knobs of a config class, in the order of its fields, without the switches of its record `compat`."""
    hints = typing.get_type_hints(config)
    return tuple(_knob(field, hints[field.name]) for field in dataclasses.fields(config) if _KEY in field.metadata)


def _knob(field: dataclasses.Field[Any], hint: Any) -> Knob:
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        inner = [arm for arm in get_args(hint) if arm is not type(None)]
        optional, hint = len(inner) < len(get_args(hint)), inner[0]
    choices: tuple[str, ...] | None = None
    if get_origin(hint) is Literal:
        choices, kind = tuple(str(choice) for choice in get_args(hint)), "str"
    elif get_origin(hint) is tuple:
        kind = "ints" if get_args(hint)[0] is int else "floats" if get_args(hint)[0] is float else "texts"
    else:
        kind = hint.__name__
    return Knob(field.name, kind, field.default, optional=optional, choices=choices, **field.metadata[_KEY])


def configured(config: type[ConfigT], values: Mapping[str, object], base: ConfigT | None = None) -> ConfigT:
    """Build a config from values as Python objects or as texts of the command line, over `base` or the defaults.

    A switch of `compat` is also understood by its bare name, as in the configs of older edits; there None leaves it as it is.

    Names and words of older versions are understood as well (`FORMER`, see `as_now`).

    Raises:
        UnknownKnob: a name that the config does not have.
        BadKnob: a value of the wrong type, out of bounds, or not among the choices.
    """
    values = as_now(config, values)
    known, start = {item.name: item for item in knobs(config)}, config() if base is None else base
    compat = compat_of(config)
    own, switched = (dict(values), {}) if compat is None else _parted(compat, known, values)
    for name in own:
        if name not in known:
            raise UnknownKnob(name, [*known, *(() if compat is None else (f"{COMPAT}.{item.name}" for item in compat.switches))])
    read = {name: _read(known[name], value) for name, value in own.items()}
    if compat is not None:
        read[COMPAT] = _record(compat, switched, getattr(start, COMPAT))
    return cast(ConfigT, dataclasses.replace(cast(Any, start), **read))


def check_layers(config: object, n_layers: int) -> None:
    """Refuse a config that names no layer, or one that a model of so many does not have, in any knob that names layers.

    Raises:
        BadKnob: the message names the knob, its value and the layers that there are.
    """
    for item in knobs(type(config)):
        value = getattr(config, item.name)
        if item.names_layers and value is not None:
            existing_layers(item.name, value if isinstance(value, tuple) else (value,), n_layers)


def existing_layers(name: str, layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """The layers, in order and each once.

    Raises:
        BadKnob: there is none, or one that a model of so many does not have.
    """
    if not layers or not all(0 <= layer < n_layers for layer in layers):
        what = f"{name} = {', '.join(map(str, layers)) or 'no layer'}; the model has layers 0 to {n_layers - 1}."
        raise BadKnob(what, "Choose layers that the model has, at least one.")
    return tuple(sorted(set(layers)))


def as_now(config: type, values: Mapping[str, object]) -> dict[str, object]:
    """Return some values by the names and words that the config has now.

    Its `FORMER` maps a name of older versions (perhaps the present one) to the present name and to what became of its words.
    """
    former: Mapping[str, tuple[str, Mapping[str, str]]] = getattr(config, "FORMER", {})
    found: dict[str, object] = {}
    for name, value in values.items():
        now, words = former.get(name, (name, {}))
        found[now] = words.get(value, value) if isinstance(value, str) else value
    return found


def renamed(config: type, values: Mapping[str, object]) -> dict[str, object]:
    """Return some values by the names that the config has now: those of its own knobs, and the record `compat` whole if any is of it.

    What the config calls `RETIRED` is left out: knobs of older versions, whose choice is made elsewhere now.

    Raises:
        UnknownKnob, BadKnob: as `configured`, of the record.
    """
    compat, retired = compat_of(config), getattr(config, "RETIRED", ())
    values = {name: value for name, value in as_now(config, values).items() if name not in retired}
    if compat is None:
        return values
    own, switched = _parted(compat, {item.name: item for item in knobs(config)}, values)
    return own if not switched else {**own, COMPAT: as_json(_record(compat, switched, compat.ours))}


def as_json(config: object) -> dict[str, Any]:
    """Return a config's values as JSON types; tuples become lists, the record `compat` a mapping."""
    values = {item.name: getattr(config, item.name) for item in knobs(type(config))}
    found = {name: list(cast(Any, value)) if isinstance(value, tuple) else value for name, value in values.items()}
    return found if compat_of(type(config)) is None else {**found, COMPAT: as_json(getattr(config, COMPAT))}


def _parted(compat: Compat, known: Mapping[str, Knob], values: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Tell a config's own knobs from what goes to its record: `compat`, `compat.NAME`, and bare names that no knob takes.

    A switch of the name of a knob overrules that knob. So the knob alone switches it off again, unless the record is given too.
    """
    switches = {item.name: item for item in compat.switches}
    own: dict[str, object] = {}
    switched: dict[str, object] = {COMPAT: values[COMPAT]} if COMPAT in values else {}
    for name, value in values.items():
        bare = name.removeprefix(f"{COMPAT}.")
        switch = switches.get(bare)
        if name == COMPAT:
            continue
        if switch is None:
            own[name] = value
        elif bare != name:
            switched[bare] = value
        elif name not in known:
            if value is not None or switch.optional:
                switched[name] = value
        elif value in (switch.choices or ()) and value not in (known[name].choices or ()):
            switched[name] = value
        else:
            own[name] = value
            if COMPAT not in values:
                switched.setdefault(name, None)
    return own, switched


def _record(compat: Compat, switched: Mapping[str, object], start: object) -> object:
    given, kind = switched.get(COMPAT, start), type(compat.ours)
    if given is None or given in _WORDS:
        start = compat.official if given == "official" else compat.ours
    elif isinstance(given, kind):
        start = given
    elif isinstance(given, Mapping):
        start = configured(kind, cast(Mapping[str, object], given))
    else:
        raise BadKnob(f"{COMPAT} = {given!r} is not one of {', '.join(_WORDS)}.", f"Give one of them, or a switch as {COMPAT}.NAME.")
    return configured(kind, {name: value for name, value in switched.items() if name != COMPAT}, start)


def _read(item: Knob, value: object) -> object:
    if value is None or (isinstance(value, str) and item.optional and value.strip().lower() in ("", "none", "auto")):
        if not item.optional:
            raise BadKnob(f"{item.name} needs a value.", f"Give {_wanted(item)}.")
        return None
    try:
        result = _typed(item, value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise BadKnob(f"{item.name} = {_told(value)} is not {_wanted(item)}.", f"Give {_wanted(item)}.") from error
    _check(item, result)
    return result


def _typed(item: Knob, value: object) -> object:
    if item.kind in ("ints", "floats", "texts"):
        parts: list[Any] = [p for p in value.split(",") if p.strip()] if isinstance(value, str) else list(cast(Any, value))
        if item.kind == "ints":
            return tuple(_int(part) for part in parts)
        return tuple(float(part) if item.kind == "floats" else str(part).strip() for part in parts)
    if item.kind == "bool":
        if isinstance(value, bool):
            return value
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).strip().lower()]
    if item.kind == "int":
        return _int(value)
    return float(cast(Any, value)) if item.kind == "float" else str(value)


def _int(value: object) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("not a whole number")
    return int(cast(Any, value))


def _check(item: Knob, value: object) -> None:
    if item.choices is not None and value not in item.choices:
        raise BadKnob(f"{item.name} = {_told(value)} is not a choice.", f"Choose one of: {', '.join(item.choices)}.")
    if item.bounds is None:
        return
    numbers = cast(tuple[Any, ...], value) if isinstance(value, tuple) else (value,)
    low, high = item.bounds
    for number in numbers:
        if not low <= cast(float, number) <= high:
            raise BadKnob(f"{item.name} = {_told(number)} is outside {low:g} to {high:g}.", f"Give {_wanted(item)}.")


def _told(value: object) -> str:
    """A value as a message shows it; Python writes out no integer of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:199]}…"


def _wanted(item: Knob) -> str:
    if item.choices is not None:
        return "one of " + ", ".join(item.choices)
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
    lists = {"ints": "whole numbers with commas", "floats": "numbers with commas", "texts": "texts with commas"}
    span = "" if item.bounds is None else f" from {item.bounds[0]:g} to {item.bounds[1]:g}"
    return (words | lists)[item.kind] + span + (", or none" if item.optional else "")
