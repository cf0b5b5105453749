"""A capital question on the real model: from the logit lens to an edit that makes it name another country's capital, clicks counted.

    python -m tests.browser.capital_steps WORKSPACE     # where smollm2-135m lies; a line a pair of countries

It takes a minute or two, so it is run by hand; a cell's verbs on the embedded model are in tests/app/test_inspect_cells.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.browser.conftest import FLAGS, Server, needed_chromium
from tests.browser.steps import idle
from tests.real_wheel import NAME

PAIRS = (
    ("France", "Germany", "Berlin"), ("Italy", "Spain", "Madrid"), ("Japan", "China", "Beijing"), ("Egypt", "Kenya", "Nairobi"),
    ("Sweden", "Norway", "Oslo"),
)  # fmt: skip
LAYER = 8
MOST_CLICKS = 8


class Person:
    """A mouse that counts its clicks, those into fields among them."""

    def __init__(self, page: Any) -> None:
        self.page, self.clicks = page, 0

    def click(self, found: Any) -> None:
        found.click()
        self.clicks += 1

    def write(self, selector: str, text: str) -> None:
        """Click into a field, and type."""
        field = self.page.locator(selector).first
        self.click(field)
        field.fill(text)
        field.press("Tab")
        idle(self.page)


def asked(person: Person, country: str, other: str) -> str:
    """Ask for the capital of one country, put the other's stream into the cell of its name; what the page says of it."""
    page = person.page
    person.write(".st-key-inspect-prompt textarea", f"The capital of {country} is")
    person.click(page.locator(".st-key-lens-run button"))
    cell = page.locator(f".st-key-lens-grid td button[aria-label*='layer {LAYER}, token'][aria-label*=' ␣{country}: ']")
    cell.wait_for()
    idle(page)
    person.click(cell)
    page.locator(".st-key-cell-verbs").wait_for()
    idle(page)
    person.write(".st-key-cell-swap input", other)
    person.click(page.locator(".st-key-cell-make button"))
    said = page.locator(".st-key-meaning-cell-said")
    said.wait_for()
    idle(page)
    return said.inner_text()


def main() -> None:
    """Each pair in a tab of its own; how many clicks it took, and whether the other capital is said."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as room, sync_playwright() as play:
        home = Path(room)
        (home / "workspace").mkdir()
        (home / "workspace" / "models").symlink_to(Path(sys.argv[1]).resolve() / "models")
        server = Server(home)
        browser = play.chromium.launch(executable_path=needed_chromium(), headless=True, args=FLAGS)
        done = 0
        try:
            for country, other, capital in PAIRS:
                page = browser.new_context(viewport={"width": 1360, "height": 1100}).new_page()
                page.set_default_timeout(300_000)
                page.goto(f"{server.url}/inspect?model={NAME}")
                load = page.locator(".st-key-again-load button")
                load.or_(page.locator(".st-key-lens-run button")).first.wait_for()
                if load.count():  # a link names a model, a person loads it; in a later tab it is there
                    load.first.click()
                page.locator(".st-key-statusbar").get_by_text("135 M").first.wait_for()
                idle(page)
                person, began = Person(page), time.monotonic()
                person.click(page.locator(".st-key-inspect-prompt-chat label").first)  # a text to go on with, not a question
                idle(page)
                said = asked(person, country, other)
                holds = f"says “{capital}”" in said and person.clicks <= MOST_CLICKS
                done += holds
                sys.stdout.write(f"{country} → {other}: {person.clicks} clicks, {time.monotonic() - began:.0f} s. {said}\n")
                sys.stdout.flush()
                page.context.close()
        finally:
            browser.close()
            server.stop()
    sys.stdout.write(f"{done} of {len(PAIRS)} pairs in at most {MOST_CLICKS} clicks\n")
    sys.exit(done < 3)


if __name__ == "__main__":
    main()
