"""Knobs: dataclass fields with the metadata from which forms, command-line flags, cards and docs are made.

@dataclass(frozen=True)
class SeaConfig:
    keep: float = knob(0.99, label="Share kept", help="…", bounds=(0.5, 1.0), symbol="K")
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from workbench.errors import BadKnob, UnknownKnob

ConfigT = TypeVar("ConfigT")
_KEY = "knob"


@dataclass(frozen=True)
class Knob:
    """What a person needs to know about one setting of a method.

    `main` marks the few that a form shows at once. `bounds` are inclusive. `choices` are the allowed texts. `kind` is the Python type
    that the value has: int, float, bool, str, or "ints"/"texts" for tuples; `optional` says that None ("choose for me") is allowed.
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


def knob(
    default: Any,
    *,
    label: str,
    help: str,  # noqa: A002 - the field's own word
    symbol: str = "",
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    main: bool = False,
) -> Any:
    """Return a dataclass field that carries a knob's metadata."""
    meta = {"label": label, "help": help, "symbol": symbol, "unit": unit, "bounds": bounds, "main": main}
    return dataclasses.field(default=default, metadata={_KEY: meta})


def knobs(config: type) -> tuple[Knob, ...]:
    """Return the knobs of a config class, in the order of its fields."""
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

    Raises:
        UnknownKnob: a name that the config does not have.
        BadKnob: a value of the wrong type, out of bounds, or not among the choices.
    """
    known = {item.name: item for item in knobs(config)}
    for name in values:
        if name not in known:
            raise UnknownKnob(name, known)
    read = {name: _read(known[name], value) for name, value in values.items()}
    start = config() if base is None else base
    return cast(ConfigT, dataclasses.replace(cast(Any, start), **read))


def as_json(config: object) -> dict[str, Any]:
    """Return a config's values as JSON types; tuples become lists."""
    values = {item.name: getattr(config, item.name) for item in knobs(type(config))}
    return {name: list(cast(Any, value)) if isinstance(value, tuple) else value for name, value in values.items()}


def _read(item: Knob, value: object) -> object:
    if value is None or (isinstance(value, str) and item.optional and value.strip().lower() in ("", "none", "auto")):
        if not item.optional:
            raise BadKnob(f"{item.name} needs a value.", f"Give {_wanted(item)}.")
        return None
    try:
        result = _typed(item, value)
    except (TypeError, ValueError, KeyError) as error:
        raise BadKnob(f"{item.name} = {value!r} is not {_wanted(item)}.", f"Give {_wanted(item)}.") from error
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
        raise BadKnob(f"{item.name} = {value!r} is not a choice.", f"Choose one of: {', '.join(item.choices)}.")
    if item.bounds is None:
        return
    numbers = cast(tuple[Any, ...], value) if isinstance(value, tuple) else (value,)
    low, high = item.bounds
    for number in numbers:
        if not low <= cast(float, number) <= high:
            raise BadKnob(f"{item.name} = {number} is outside {low:g} to {high:g}.", f"Give {_wanted(item)}.")


def _wanted(item: Knob) -> str:
    if item.choices is not None:
        return "one of " + ", ".join(item.choices)
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
    lists = {"ints": "whole numbers with commas", "floats": "numbers with commas", "texts": "texts with commas"}
    span = "" if item.bounds is None else f" from {item.bounds[0]:g} to {item.bounds[1]:g}"
    return (words | lists)[item.kind] + span + (", or none" if item.optional else "")
