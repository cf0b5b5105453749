"""The app in a process of its own, on two cores, that can be asked how it is: memory, threads, files, hooks, the base model's logits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from workbench.resources import HOME
from workbench.workspace.share import CLASS_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
_ASK, _ANSWER = "ask", "answer.json"


# Streamlit keeps a closed tab for two minutes, in case that its connection comes back.
_COMES_BACK_S = 125.0


@dataclass(frozen=True)
class Vital:
    """How the server is: MB of its own memory, threads, open files and sockets."""

    mb: float
    threads: int
    files: int


def chromium() -> str | None:
    """Path of a Chromium, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Server:
    """The app for a class, from its start until the model is there; a context."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self._folder = f"http://127.0.0.1:{port}", folder
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**CLASS_ENVIRONMENT, **os.environ, HOME: str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        self._log = (folder / "server.log").open("w")
        command = [sys.executable, "-m", "benchmarks.learners_server", str(port), str(folder)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Server:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.2)
        try:
            self.probe()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def vital(self) -> Vital:
        """How the server is now."""
        one = psutil.Process(self._process.pid)
        return Vital(one.memory_info().rss / 2**20, one.num_threads(), one.num_fds())

    def probe(self, timeout_s: float = 180) -> dict[str, Any]:
        """Hash of the base model's logits, and its hooks. Raises: TimeoutError."""
        return self._asked("probe", timeout_s)

    def settle(self, timeout_s: float = 300) -> None:
        """Stop what runs and wait until nothing does, and until the tabs that were closed are forgotten."""
        self._asked("settle", timeout_s)

    def _asked(self, what: str, timeout_s: float) -> dict[str, Any]:
        answer = self._folder / _ANSWER
        answer.unlink(missing_ok=True)
        (self._folder / _ASK).write_text(what)
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if answer.exists():
                return json.loads(answer.read_text())
            if self._process.poll() is not None:
                raise RuntimeError(f"The server ended with {self._process.returncode}: {(self._folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"The server did not answer {what!r} within {timeout_s:g} s.")


def _answer(folder: Path) -> None:
    """Answer what the benchmark asks, as long as the server lives."""
    from pages._ui.kit.backend import backend

    backend().boot()
    while True:
        time.sleep(0.1)
        asked = folder / _ASK
        if not asked.exists():
            continue
        what = asked.read_text()
        asked.unlink()
        found = _probed() if what == "probe" else _settled()
        draft = folder / "draft"
        draft.write_text(json.dumps(found))
        draft.rename(folder / _ANSWER)


def _probed() -> dict[str, Any]:
    import torch

    from pages._ui.kit.backend import backend
    from pages._ui.kit.state import FIRST
    from workbench.progress import silent

    model = backend().wait(FIRST, silent()).model
    with torch.no_grad():
        logits = model.logits(model.tokens(["Question: What do bulls hate? Answer:", "Anna sees the cat."]))
    return {"logits": hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest(), "hooks": model.hook_count()}


def _settled() -> dict[str, Any]:
    """Stop all work, drop what is kept up to a limit, and give freed memory back to the system, which glibc does not by itself."""
    import ctypes
    import gc

    from pages._ui.kit.backend import backend
    from pages._ui.kit.state import FIRST
    from workbench.forks.kept import forget
    from workbench.progress import silent

    stopped = backend().jobs.cancel_all(60)
    time.sleep(_COMES_BACK_S)
    forget(backend().wait(FIRST, silent()).model)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return {"stopped": stopped}


def main() -> None:
    """Serve the app on a port, with the settings that lie beside it; the folder is where questions and answers lie."""
    from streamlit.web.cli import main as streamlit

    port, folder = sys.argv[1], Path(sys.argv[2])
    own = psutil.Process()
    own.cpu_affinity(own.cpu_affinity()[:2])
    threading.Thread(target=_answer, args=(folder,), daemon=True).start()
    streamlit(["run", str(ROOT / "app.py"), "--server.port", port, "--server.address", "127.0.0.1"])


if __name__ == "__main__":
    main()
