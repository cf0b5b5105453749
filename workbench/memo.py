"""What candidates of one choice have in common is computed once: results kept while a context is open, up to a limit."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workbench.sites import Site

_T = TypeVar("_T")
MEMO_BYTES = 256_000_000
"""Most memory that kept results take; beyond it they are computed again."""


@dataclass
class _Kept:
    also: tuple[Site, ...]
    found: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any])
    n_bytes: int = 0


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def remembering(also: tuple[Site, ...] = ()) -> Generator[None]:
    """Keep results that are asked for by `once` and by `record` until the context is left; one within another is the outer one.

    Args:
        also: sites that later candidates will read, so that one forward serves them all.
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set(_Kept(also))
    try:
        yield
    finally:
        _kept.reset(token)


def wanted_too() -> tuple[Site, ...]:
    """The sites that candidates to come will read; none outside a choice."""
    kept = _kept.get()
    return () if kept is None else kept.also


def recalled(key: Hashable) -> Any:
    """What was kept under a key, or None."""
    kept = _kept.get()
    return None if kept is None else kept.found.get(key)


def keep(key: Hashable, value: Any, n_bytes: int) -> None:
    """Keep a value that is not None, if a context is open and it fits."""
    kept = _kept.get()
    if kept is not None and kept.n_bytes + n_bytes <= MEMO_BYTES:
        kept.found[key] = value
        kept.n_bytes += n_bytes


def once(key: Hashable, make: Callable[[], _T]) -> _T:
    """What `make` gives: the first time in a context, and the same object later. It has to follow from the key alone."""
    found = recalled(key)
    if found is None:
        found = make()
        keep(key, found, 0)
    return found
