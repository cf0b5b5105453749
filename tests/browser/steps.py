"""What a person does on the pages, as steps that browser tests and screenshots share."""

from __future__ import annotations

from typing import Any


def ready(page: Any) -> None:
    """Wait until the model is there: the status bar names its number type."""
    page.locator(".st-key-statusbar").get_by_text("float32").first.wait_for(timeout=180_000)


def idle(page: Any) -> None:
    """Wait until no script runs and the pictures are drawn."""
    page.wait_for_timeout(700)
    page.locator("[data-testid='stStatusWidget']").wait_for(state="hidden")
    page.wait_for_timeout(1200)


def goto(page: Any, title: str) -> None:
    """Follow the menu to a page; below 700 px the menu has to be opened first."""
    link = page.locator("[data-testid='stSidebarNavLink']").filter(has_text=title).first
    if not link.is_visible() or page.viewport_size["width"] < 700:
        opener = page.locator("[data-testid='stExpandSidebarButton']")
        if opener.count() and opener.first.is_visible():
            opener.first.click()
    link.click()
    page.get_by_role("heading", name=title, level=1).wait_for()
    idle(page)


def fit(page: Any) -> None:
    """First click of the loop: the card on Start fits an edit and ends on Edit with its verdict."""
    goto(page, "Start")
    page.locator(".st-key-start-truthful button").click()
    page.get_by_role("heading", name="Edit", level=1).wait_for()
    page.get_by_text("with the edit").first.wait_for()  # the edit can be used before its verdict is there
    idle(page)


def compare(page: Any) -> None:
    """Second and third click: the verdict's Compare, then Compare there."""
    page.locator(".st-key-fit-compare button").first.click()
    page.get_by_role("heading", name="Compare", level=1).wait_for()
    idle(page)
    page.locator(".st-key-compare button").first.click()
    page.get_by_text("KL to base").first.wait_for()
    idle(page)


def inspect(page: Any) -> None:
    """Read every layer, and pick a cell of the grid."""
    goto(page, "Inspect")
    page.locator(".st-key-lens-run button").click()
    page.locator(".st-key-lens-grid td button").first.wait_for()
    idle(page)
    page.locator(".st-key-lens-grid td button").nth(6).click()
    page.locator(".st-key-drawer-lens").wait_for()
    idle(page)
