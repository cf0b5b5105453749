"""Fixtures of the browser tests: a running app and a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


def chromium() -> str | None:
    """Path of a Chromium, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needed_chromium() -> str:
    """Path of a Chromium. Without one the test is skipped, and fails in CI: there `make test` has installed one."""
    found = chromium()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium on this machine; `make test` installs one")
    return found


class Server:
    """The app in a process of its own, on a free port, with a workspace of its own.

    retouch: the command that starts it; in the checkout `python -m workbench`, as nothing need be installed there.
    """

    def __init__(self, home: Path, retouch: Sequence[str] = (sys.executable, "-m", "workbench"), folder: Path = ROOT) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = (home / "server.log").open("w")
        # Time enough for all rows of a set, however busy the machine is.
        own = {"RETOUCH_VERDICT_S": "120"}
        environment = {**os.environ, **own, "RETOUCH_HOME": str(home / "workspace"), "HF_HUB_OFFLINE": "1"}
        command = [*retouch, "app", "--port", str(port), "--address", "127.0.0.1"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        self.answered_s = self._wait()

    def _wait(self) -> float:
        while time.monotonic() - self.started < 60:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return time.monotonic() - self.started
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("The server did not answer within a minute.")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app, started once for all browser tests."""
    needed_chromium()
    running = Server(tmp_path_factory.mktemp("browser"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=needed_chromium(), headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page of the app in a fresh profile; every profile is closed at the end of the test."""
    contexts: list[Any] = []

    def go(path: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{server.url}/{path}")
        page.get_by_role("heading", level=1).first.wait_for()
        return page

    yield go
    for context in contexts:
        context.close()
