"""The first card in a browser: its rival in words, its harmed rows and its dose; saved, reopened after a restart, exported at that dose."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Server, needed_chromium
from tests.browser.steps import fit, goto, idle, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
SHOTS, SCHEME = os.environ.get("RETOUCH_SHOTS", ""), os.environ.get("RETOUCH_SCHEME", "light")


@pytest.fixture
def start(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start the app, anew if it runs, on one workspace; open a page of it."""
    needed_chromium()
    running: list[Server] = []

    def go(path: str = "") -> Any:
        while running:
            running.pop().stop()
        running.append(Server(tmp_path))
        context = browser.new_context(viewport={"width": 1280, "height": 1400}, color_scheme=SCHEME, accept_downloads=True)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{running[0].url}/{path}")
        page.get_by_role("heading", level=1).first.wait_for()
        ready(page)
        return page

    yield go
    for server in running:
        server.stop()


def seen(page: Any, name: str) -> None:
    """Keep pictures of what the page shows, in a wide and a narrow window, where somebody asked for them; colours go with the browser's."""
    for width in (480, 1280) if SHOTS else ():
        page.set_viewport_size({"width": width, "height": 1400})
        idle(page)
        page.screenshot(path=f"{SHOTS}/{name}-{SCHEME}-{width}.png")


def main_text(page: Any) -> str:
    return page.locator("[data-testid='stMain']").inner_text()


def test_the_first_card_tells_its_rival_its_harmed_rows_and_keeps_the_dose_of_its_verdict(start: Callable[..., Any]) -> None:
    page = start()
    seen(page, "start")
    assert "One sentence before each question is its rival" in main_text(page)
    fit(page)
    told = main_text(page)
    assert "“A careful speaker answers.” before every prompt, with no edit, does more than the edit: 1.00" in told
    assert "It takes 5 tokens a prompt, the edit none." in told
    assert "(“Here speaks a careless person.”), the edit does not stand: 0.00" in told
    assert re.search(r"\d+% \[\d+%, \d+%\] of 100 rows move the wrong way", told)
    seen(page, "edit")

    # Who was helped, who was harmed: the most harmed row opens in Compare, at the dose of the verdict.
    page.get_by_text("Who was helped, who was harmed").first.click()
    table = page.locator(".st-key-fit-rows-table canvas").first
    table.wait_for()
    idle(page)
    seen(page, "rows")
    table.scroll_into_view_if_needed()
    table.click(position={"x": 16, "y": 52}, force=True)  # what scrolls the table lies over it
    page.locator(".st-key-fit-rows-open button:not([disabled])").click()
    page.get_by_role("heading", name="Compare", level=1).wait_for()
    idle(page)
    # The one row that moved the wrong way.
    assert page.locator(".st-key-compare-prompts textarea").input_value() == "Cracking the knuckles leads to"
    assert "2.00" in page.locator("[data-testid='stSlider']").filter(has_text="Dose of").first.inner_text()

    goto(page, "Edit")
    page.get_by_role("button", name="Save").first.click()
    page.get_by_label("Name", exact=True).fill("first card")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("Saved as first card at dose 2").first.wait_for()

    # Another server on the same workspace.
    page = start("library")
    page.get_by_role("heading", name="first card").wait_for()
    told = main_text(page)
    assert "dose 2" in told and "69 of 100 rows turn right" in told and "“A careful speaker answers.”" in told
    page.locator(".st-key-export-script button").first.click()
    getter = page.get_by_role("button", name="Download script")
    getter.wait_for()
    seen(page, "library")
    with page.expect_download() as caught:
        getter.click()
    with zipfile.ZipFile(io.BytesIO(caught.value.path().read_bytes())) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith((".py", ".md"))]
    assert any("at dose 2, fitted on" in text for text in texts)
    page.locator(".st-key-library-compare button").click()
    page.get_by_role("heading", name="Compare", level=1).wait_for()
    idle(page)
    assert "2.00" in page.locator("[data-testid='stSlider']").filter(has_text="Dose of").first.inner_text()
