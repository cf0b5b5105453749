"""Retouch without a page: open a session, fit edits, let them act. Everything that a page can do, this package can do.

`import workbench` loads no torch: each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.data.demonstrations import Demonstration, Demonstrations
    from workbench.edits.engine import applied, lanes
    from workbench.edits.store import load as load_edit
    from workbench.session import open_session

__version__ = "0.2.0"
__all__ = ["Demonstration", "Demonstrations", "__version__", "applied", "lanes", "load_edit", "open_session"]

_FOUND_IN = {
    "Demonstration": ("workbench.data.demonstrations", "Demonstration"),
    "Demonstrations": ("workbench.data.demonstrations", "Demonstrations"),
    "applied": ("workbench.edits.engine", "applied"),
    "lanes": ("workbench.edits.engine", "lanes"),
    "load_edit": ("workbench.edits.store", "load"),
    "open_session": ("workbench.session", "open_session"),
}


def __getattr__(name: str) -> object:
    if name not in _FOUND_IN:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _FOUND_IN[name]
    globals()[name] = getattr(import_module(module), attribute)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
