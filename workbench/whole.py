"""Files and folders that are written whole or not at all, and are on disk when the call returns.

What is unfinished lies beside its goal under a hidden name with the number of the process at work, so that what a killed process left
behind is known and removed by the next writer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from workbench.errors import StorageFailed

_MARK, _WAS = ".unfinished-", "-was"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def whole_folder(goal: Path, *, replaces: Callable[[Path], bool] | None = None) -> Generator[Path]:
    """A folder to write into, that becomes `goal` when the context ends well and is removed when it does not.

    replaces: whether an existing `goal` may be replaced; without it none is. It is exchanged in one step where the system can do that
    (Linux), so that a reader sees the old folder or the new one.

    Raises:
        StorageFailed: `goal` exists and may not be replaced. OSError: the disk refuses; nothing was changed.
    """
    _may_stand(goal, replaces)
    with room_beside(goal) as draft:
        yield draft
        draft.chmod(0o755)
        _may_stand(goal, replaces)
        put(draft, goal)


def whole_file(goal: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old one, the new one, or none.

    Raises:
        OSError: the disk refuses; nothing was changed.
    """
    with room_beside(goal) as room:
        draft = room / goal.name
        draft.write_bytes(content)
        put(draft, goal)


def put(draft: Path, goal: Path) -> None:
    """Give a finished file or folder its name, with all of it on disk; what had that name goes. Raises: OSError, with nothing changed."""
    _on_disk(draft)
    if goal.is_dir():
        _exchange(draft, goal)
        shutil.rmtree(draft, ignore_errors=True)
    else:
        os.replace(draft, goal)
    _folder_on_disk(goal.parent)


@contextmanager
def room_beside(goal: Path) -> Generator[Path]:
    """A hidden folder beside `goal` to write into, removed at the end."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    tidy(goal.parent, goal.name)
    room = Path(tempfile.mkdtemp(prefix=_prefix(goal.name), dir=goal.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def tidy(parent: Path, name: str = "") -> None:
    """Remove what processes that have ended left unfinished in a folder: of one goal, or of every one."""
    for left in parent.glob(f".{name}{_MARK}*" if name else f".*{_MARK}*"):
        of, _, rest = left.name[1:].rpartition(_MARK)
        owner, goal = rest.partition("-")[0], parent / of
        if owner.isdigit() and psutil.pid_exists(int(owner)):
            continue
        if rest.endswith(_WAS) and not goal.exists():
            os.replace(left, goal)  # killed between two renames: what was there is still the answer
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _prefix(name: str) -> str:
    return f".{name}{_MARK}{os.getpid()}-"


def _may_stand(goal: Path, replaces: Callable[[Path], bool] | None) -> None:
    if not (goal.exists() or goal.is_symlink()):
        return
    if replaces is None:
        raise StorageFailed(f"{goal} exists already.", "Choose another folder.")
    if goal.is_symlink() or not goal.is_dir() or not replaces(goal):
        raise StorageFailed(
            f"{goal} holds something else than what would be written, so it is not replaced.", "Choose another folder, or move it away."
        )


def _on_disk(path: Path) -> None:
    """Files first, then the folders that name them."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        return
    for inner in path.iterdir():
        _on_disk(inner)
    _folder_on_disk(path)


def _folder_on_disk(folder: Path) -> None:
    if os.name != "posix":  # Windows opens no folders, and has renames on disk by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(draft: Path, goal: Path) -> None:
    """Put `draft` in the place of `goal`; what was there lies in `draft`'s place after it, to be removed."""
    if _exchanged_at_once(draft, goal):
        return
    was = draft.with_name(f"{draft.name}{_WAS}")
    os.replace(goal, was)
    try:
        os.replace(draft, goal)
    except BaseException:
        os.replace(was, goal)
        raise
    shutil.rmtree(was, ignore_errors=True)


def _exchanged_at_once(draft: Path, goal: Path) -> bool:
    """Whether the system exchanged both names in one step; False where it or the file system knows no such step."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if exchange is None:
        return False
    if exchange(_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(goal), _RENAME_EXCHANGE) == 0:
        return True
    failed = ctypes.get_errno()
    if failed in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(failed, os.strerror(failed), str(goal))
