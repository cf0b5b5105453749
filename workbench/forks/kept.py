"""What is kept of a model's unedited passes between evaluations, the least recently used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from workbench.forks.passes import Pass
from workbench.models.base import LanguageModel
from workbench.shapes import Tensor

KEPT_BYTES = 256_000_000
"""Most memory that kept passes of one model take."""


@dataclass
class Kept:
    """The passes over one chunk of rows, and the unedited model's own scores of it."""

    passes: tuple[Pass, ...]
    base: Tensor
    more: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def n_bytes(self) -> int:
        """Memory of all that is held."""
        return sum(done.n_bytes for done in self.passes) + sum(t.untyped_storage().nbytes() for t in (self.base, *self.more.values()))


class Store:
    """Kept chunks of one model, the least recently used dropped first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[Any, ...], Kept] = OrderedDict()

    def get(self, key: tuple[Any, ...], forks: set[int]) -> Kept | None:
        """What is kept of a chunk, if it has what lanes need that fork there."""
        with self._lock:
            found = self._chunks.get(key)
            if found is None or any(not forks <= done.entering.keys() for done in found.passes):
                return None
            self._chunks.move_to_end(key)
            return found

    def put(self, key: tuple[Any, ...], kept: Kept) -> None:
        """Keep a chunk, and drop others for it."""
        with self._lock:
            self._chunks[key] = kept
            self._chunks.move_to_end(key)
            while self._chunks and sum(item.n_bytes for item in self._chunks.values()) > KEPT_BYTES:
                self._chunks.popitem(last=False)

    def known_forks(self, key: tuple[Any, ...]) -> set[int]:
        """The forks that a kept chunk serves."""
        with self._lock:
            found = self._chunks.get(key)
            return set() if found is None else set.intersection(*(set(done.entering) for done in found.passes))


_stores: WeakKeyDictionary[LanguageModel, Store] = WeakKeyDictionary()
_stores_lock = threading.Lock()


def store_of(model: LanguageModel) -> Store:
    """The chunks kept of a model."""
    with _stores_lock:
        return _stores.setdefault(model, Store())


def forget(model: LanguageModel) -> None:
    """Drop what is kept of a model's passes."""
    with _stores_lock:
        _stores.pop(model, None)
