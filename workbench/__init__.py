"""Retouch without a page: open a session, fit edits, let them act. Everything that a page can do, this package can do.

`import workbench` loads no torch: each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.conversations import Conversation, as_chat
    from workbench.data.demonstrations import Demonstration, Demonstrations
    from workbench.edits.engine import applied, lanes
    from workbench.edits.store import load_edit
    from workbench.opening import open_session

__version__ = "0.2.0"
__all__ = ["Conversation", "Demonstration", "Demonstrations", "__version__", "applied", "as_chat", "lanes", "load_edit", "open_session"]

_FOUND_IN = {
    "Conversation": "workbench.conversations",
    "Demonstration": "workbench.data.demonstrations",
    "Demonstrations": "workbench.data.demonstrations",
    "applied": "workbench.edits.engine",
    "as_chat": "workbench.conversations",
    "lanes": "workbench.edits.engine",
    "load_edit": "workbench.edits.store",
    "open_session": "workbench.opening",
}


def __getattr__(name: str) -> object:
    if name not in _FOUND_IN:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = getattr(import_module(_FOUND_IN[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
