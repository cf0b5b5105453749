"""Open a session: load a model, and put a workspace under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.models import catalog
from workbench.progress import Progress
from workbench.resources import models_of
from workbench.session import Session
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.home import Workspace


def open_session(
    model: str = "embedded", workspace: Workspace | str | Path | None = None,
    *, records: bool = True, shelf: EditShelf | None = None, progress: Progress | None = None, **options: Any,
) -> Session:  # fmt: skip
    """Load a model and open a session on it.

    Args:
        model: embedded, embedded-backpack, a local Hugging Face folder, or a hub id.
        workspace: its folder; RETOUCH_HOME or ~/.retouch if None.
        options: dtype, device, revision, as for `catalog.load`. The others are as for `Session`.

    Raises: as `catalog.load`.
    """
    models = models_of(workspace.folder if isinstance(workspace, Workspace) else workspace)
    return Session(catalog.load(model, models=models, progress=progress, **options), workspace, records=records, shelf=shelf)
