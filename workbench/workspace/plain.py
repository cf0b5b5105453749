"""Any result record as JSON types: what the workspace stores and what `--json` prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from workbench.conversations import Conversation


def plain(value: Any) -> Any:
    """Return dataclasses and mappings as objects, conversations as messages, sequences, arrays and tensors as lists,
    and the rest as JSON scalars.

    A float that is not finite becomes null: JSON has no word for it. What is none of these becomes its `str`.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Conversation):
        return value.messages()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast(list[Any], value)]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in cast(set[Any], value)), key=str)
    if isinstance(value, Path):
        return str(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return plain(tolist())
    return str(value)
