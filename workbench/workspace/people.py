"""Whose work runs in this context: what nobody has saved is found by the person alone whose it is.

Without pages there is one person, who has no name. A page says who is at it, and a job works for whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_acting: ContextVar[str] = ContextVar("person", default="")


def acting() -> str:
    """The person whose work this is; empty for nobody in particular."""
    return _acting.get()


def act_as(person: str) -> None:
    """Work for a person from now on in this context: for a thread that is theirs alone."""
    _acting.set(person)


@contextmanager
def acting_as(person: str) -> Generator[None]:
    """Work for a person within this context."""
    token = _acting.set(person)
    try:
        yield
    finally:
        _acting.reset(token)
