"""Any result record as JSON and arrays, and back: what a run came to can be drawn again after a restart. Nothing in it is executed.

A record is written field by field; what reads it back is the annotation of each field, so only the classes that a kind of run names are
ever built.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

TEXT = "result"
"""The array that holds the JSON text, as bytes; those that the text names lie beside it."""


def packed(record: object) -> dict[str, np.ndarray]:
    """A record of frozen dataclasses, tuples, mappings, arrays and JSON scalars as named arrays, as `Runs.record` keeps them.

    Raises:
        TypeError: it holds something else, as an edit's tensors.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_told(record, arrays), ensure_ascii=False)
    return {TEXT: np.frombuffer(text.encode(), dtype=np.uint8), **arrays}


def unpacked(kind: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The record of a class that `packed` wrote. Fields that are newer than it have their defaults.

    Raises:
        KeyError, TypeError, ValueError: the arrays hold no record of this class.
    """
    return _read(kind, json.loads(arrays[TEXT].tobytes()), arrays)


def _told(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return _told(value.item(), arrays)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.ndarray):
        name = f"{TEXT}-{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {"of": type(value).__name__, "fields": {name: _told(getattr(value, name), arrays) for name in fields}}
    if isinstance(value, Mapping):
        return {"map": [[_told(key, arrays), _item(item, arrays)] for key, item in cast("Mapping[Any, Any]", value).items()]}
    if isinstance(value, (list, tuple)):
        return [_told(item, arrays) for item in cast("list[Any]", value)]
    raise TypeError(f"A {type(value).__name__} is no part of a record that can be written down.")


def _item(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value of a mapping, whose annotation often tells no tuple from a list, as with values of knobs."""
    told = _told(value, arrays)
    return {"tuple": told} if isinstance(value, tuple) else told


def _read(hint: Any, told: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(told, list):
        hints = _of_items(hint, len(cast("list[Any]", told)))
        items = [_read(one, item, arrays) for one, item in zip(hints, cast("list[Any]", told), strict=True)]
        return items if _is(hint, list) or hint is Any else tuple(items)
    if not isinstance(told, dict):
        return told
    known = cast("dict[str, Any]", told)
    if "float" in known:
        return float(known["float"])
    if "array" in known:
        return arrays[known["array"]]
    if "tuple" in known:
        return tuple(_read(hint, known["tuple"], arrays))
    if "map" in known:
        key, item = next((get_args(one) for one in _members(hint) if len(get_args(one)) == 2), (Any, Any))
        return {_read(key, name, arrays): _read(item, value, arrays) for name, value in known["map"]}
    of = next((one for one in _members(hint) if isinstance(one, type) and one.__name__ == known["of"]), None)
    if of is None or not dataclasses.is_dataclass(of):
        raise TypeError(f"A {known['of']} stands where {hint} is needed.")
    hints = get_type_hints(of)
    return of(**{name: _read(hints[name], value, arrays) for name, value in known["fields"].items()})


def _members(hint: Any) -> Iterator[Any]:
    """The types that a hint allows."""
    if get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from _members(one)
    else:
        yield hint


def _is(hint: Any, kind: type) -> bool:
    return any(get_origin(one) is kind for one in _members(hint))


def _of_items(hint: Any, n: int) -> tuple[Any, ...]:
    """The hints of a sequence's items."""
    args = next((get_args(one) for one in _members(hint) if get_args(one)), (Any,))
    return args if len(args) == n and Ellipsis not in args else (args[0],) * n
