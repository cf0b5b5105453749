"""The demonstration sets that ship: those of the embedded world, and those in everyday English for models that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from workbench.data.demonstrations import Demonstrations
from workbench.data.everyday import EVERYDAY, everyday_set
from workbench.data.sources import read
from workbench.errors import BadDemonstrations
from workbench.resources import SETS
from workbench.workspace.sets import SetInfo

_EVERYDAY = {f"everyday-{name}": name for name in EVERYDAY}
"""The world has sets of the same names."""


@dataclass(frozen=True)
class Offer:
    """A set as a picker shows it; `saved` is None for a set that ships."""

    id: str
    title: str
    about: str
    kind: str
    n: int
    metric: str = ""
    roles: Mapping[str, int] = field(default_factory=dict[str, int])
    saved: SetInfo | None = None

    @property
    def is_shipped(self) -> bool:
        """Whether it ships with Retouch, and so cannot be changed."""
        return self.saved is None


class ShippedSets:
    """The sets of a folder with an index, and those in everyday English: before the others where they are for the model at hand."""

    def __init__(self, folder: Path = SETS, *, everyday: bool = True, everyday_first: bool = False) -> None:
        self._folder, self._everyday, self._everyday_first = folder, everyday, everyday_first

    def offers(self) -> tuple[Offer, ...]:
        """What ships, the world's in the order of their index."""
        everyday = tuple(map(_everyday_offer, _EVERYDAY)) if self._everyday else ()
        return (*everyday, *self._of_world()) if self._everyday_first else (*self._of_world(), *everyday)

    def get(self, key: str) -> Demonstrations:
        """The rows of a set that is offered.

        Raises:
            BadDemonstrations: its file is damaged.
        """
        return _everyday_rows(key) if self._everyday and key in _EVERYDAY else _world_rows(self._folder, key)

    def _of_world(self) -> tuple[Offer, ...]:
        index = self._folder / "index.json"
        if not index.is_file():
            return ()
        told: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))
        return tuple(
            Offer(
                item["id"],
                item["title"],
                item["about"],
                item["kind"],
                sum(item["rows"].values()),
                item["metric"],
                item.get("roles", {}),
            )
            for item in told
        )


@cache
def _world_rows(folder: Path, key: str) -> Demonstrations:
    """A set of a folder, read once for all people of a process."""
    imported = read(folder / f"{key}.jsonl")
    broken = [problem for problem in imported.problems if problem.row is None]
    if broken:
        raise BadDemonstrations(f"The shipped set {key}: {broken[0]}", "Restore assets/data from a copy.")
    return Demonstrations(imported.demonstrations.rows, key)


@cache
def _everyday_rows(key: str) -> Demonstrations:
    return Demonstrations(everyday_set(_EVERYDAY[key]).rows.rows, key)


def _everyday_offer(key: str) -> Offer:
    told = everyday_set(_EVERYDAY[key])
    return Offer(key, told.title, f"In everyday English, for models that read it. {told.about}", told.kind, len(told.rows))
