"""Which models were loaded last in a workspace, the newest first."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from workbench.workspace.home import Workspace

_KEY = "models used"
_KEPT = 12


@dataclass(frozen=True)
class UsedModel:
    """A model as it was loaded, and when (seconds since 1970)."""

    name: str
    dtype: str
    device: str
    at: float


def last_used(workspace: Workspace) -> tuple[UsedModel, ...]:
    """The models that were loaded last, each once."""
    return tuple(UsedModel(**row) for row in workspace.draft(_KEY, []))


def note_use(workspace: Workspace, name: str, dtype: str, device: str) -> None:
    """Put a model on top of the list. Raises: StorageFailed."""
    others = [asdict(item) for item in last_used(workspace) if item.name != name]
    workspace.keep_draft(_KEY, [asdict(UsedModel(name, dtype, device, time.time())), *others][:_KEPT])
