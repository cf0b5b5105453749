"""What one person may have of this machine at once: all of it, or, in a class, a share."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

CLASS = "RETOUCH_CLASS"
_LEARNERS = 30
CLASS_ENVIRONMENT = {CLASS: "1", "MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**19), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
"""What the server of a class is started with. glibc keeps freed tensors in an arena a thread, ever more cut up; with two arenas, and
tensors of half a megabyte and more given back, what is resident stays flat. A pass over many short texts of a small model takes up to a
third longer for it, one over a prompt no longer."""


@dataclass(frozen=True)
class Share:
    """What one person may have at once; None: as much as there is.

    n_running: heavy jobs that run, and twice as many light ones. n_waiting: heavy jobs that wait. n_bytes: tensors of fits that are not
    saved. n_models: models that they brought in beside the embedded one.
    """

    n_running: int | None = None
    n_waiting: int | None = None
    n_bytes: int | None = None
    n_models: int | None = None


def is_class() -> bool:
    """Whether `retouch app --class` said that many people share this machine."""
    return bool(os.environ.get(CLASS))


def share() -> Share:
    """What one person may have here."""
    if not is_class():
        return Share()
    # A quarter of the memory for what nobody has saved yet; the rest is for models and for work that runs.
    return Share(n_running=1, n_waiting=3, n_bytes=psutil.virtual_memory().total // 4 // _LEARNERS, n_models=2)
