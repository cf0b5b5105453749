"""People in real browsers: a reload is the same person, another browser is not; Back goes one page a press."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.steps import goto, idle, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
Visit = Callable[..., Any]


def who(page: Any) -> str:
    """The person that the browser's cookie names."""
    return page.evaluate("() => document.cookie.match(/retouch_person=[0-9a-f]{32}/)[0]")


def offered(page: Any) -> str:
    """The edits that Compare offers, as its box lists them."""
    goto(page, "Compare")
    box = page.locator("[data-testid='stMultiSelect']").first
    if not box.count():
        return ""
    box.locator("input").click()
    page.wait_for_timeout(500)
    found = page.locator("[data-baseweb='popover'], [role='listbox']").all_inner_texts()
    page.keyboard.press("Escape")
    return " ".join(found) + box.inner_text()


def test_a_reload_and_a_second_tab_are_the_same_person_and_another_browser_is_not(visit: Visit) -> None:
    page = visit()
    ready(page)
    page.wait_for_function("() => document.cookie.includes('retouch_person=')")
    told = who(page)
    goto(page, "Edit")
    page.locator(".st-key-fit button").first.click()
    page.locator(".st-key-fit-compare button").first.wait_for()  # the edit can be used before its verdict is there
    page.reload()
    ready(page)
    assert who(page) == told
    second = page.context.new_page()
    second.set_default_timeout(120_000)
    second.goto(page.url.split("?")[0].rsplit("/", 1)[0])
    ready(second)
    assert "(not saved)" in offered(second)
    other = visit()
    ready(other)
    assert "(not saved)" not in offered(other)
    assert who(other) != told


def test_back_goes_one_page_a_press(visit: Visit) -> None:
    page = visit()
    ready(page)
    goto(page, "Edit")
    page.locator(".st-key-fit button").first.click()
    page.wait_for_function("() => location.search.includes('set=') || location.search.includes('jobs=')")
    idle(page)
    goto(page, "Library")
    for title in ("Edit", "Start"):
        page.go_back()
        page.get_by_role("heading", name=title, level=1).wait_for(timeout=20_000)
        idle(page)
