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


def bar(page: Any) -> str:
    """What the status bar says once the model is there and nothing runs."""
    ready(page)
    idle(page)
    return page.locator(".st-key-statusbar").inner_text()


def test_a_reload_and_a_second_tab_are_the_same_person_and_another_browser_is_not(visit: Visit) -> None:
    page = visit()
    ready(page)
    page.wait_for_function("() => document.cookie.includes('retouch_person=')")
    told = who(page)
    goto(page, "Edit")
    page.locator(".st-key-fit button").first.click()
    page.locator(".st-key-fit-compare button").first.click()  # the edit can be used before its verdict is there
    page.get_by_role("heading", name="Compare", level=1).wait_for()
    page.wait_for_function("() => location.search.includes('on=')")
    link = page.url
    page.reload()
    assert "EDIT ON" in bar(page) and who(page) == told
    second = page.context.new_page()
    second.set_default_timeout(120_000)
    second.goto(link)
    assert "EDIT ON" in bar(second)
    other = visit("compare?" + link.partition("?")[2])
    assert "EDIT ON" not in bar(other) and "BASE" in bar(other) and who(other) != told


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
        page.get_by_role("heading", name=title, exact=True, level=1).wait_for(timeout=20_000)
        idle(page)
