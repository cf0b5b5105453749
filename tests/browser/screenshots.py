"""Make the README's screenshots from the running app: `python -m tests.browser.screenshots` writes docs/screenshots/*.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import FLAGS, ROOT, Server, chromium
from tests.browser.steps import compare, fit, goto, idle, inspect, ready

OUT = ROOT / "docs" / "screenshots"


def shot(page: Any, name: str) -> None:
    """Save what the page shows now."""
    idle(page)
    page.screenshot(path=OUT / f"{name}.png")


def tour(page: Any) -> None:
    """The loop, a picture a page."""
    ready(page)
    shot(page, "start")
    fit(page)
    shot(page, "edit")
    compare(page)
    shot(page, "compare")
    goto(page, "Spectra")
    shot(page, "spectra")
    inspect(page)
    shot(page, "inspect")
    goto(page, "Demonstrations")
    shot(page, "demonstrations")


def main() -> int:
    """Start the app, walk it in light and dark, and stop it."""
    if chromium() is None:
        sys.stderr.write("No Chromium on this machine. Install one, then run this again.\n")
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as play:
        server = Server(Path(home))
        browser = play.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1360, "height": 1000}, color_scheme="light")
            page.set_default_timeout(180_000)
            page.goto(server.url)
            tour(page)
            dark = browser.new_page(viewport={"width": 1360, "height": 1000}, color_scheme="dark")
            dark.set_default_timeout(180_000)
            dark.goto(page.url)
            ready(dark)
            goto(dark, "Demonstrations")
            shot(dark, "dark")
        finally:
            browser.close()
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
