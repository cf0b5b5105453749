"""A narrow screen: the opened menu goes once a page is chosen; where the bar is folded away, the head says that an edit is on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.steps import compare, fit, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_menu_of_a_narrow_screen_closes_after_a_choice_and_not_before(visit: Any) -> None:
    page = visit()
    page.set_viewport_size({"width": 480, "height": 900})
    page.reload()
    page.get_by_role("heading", name="Start", level=1).wait_for()
    link = page.locator("[data-testid=stSidebarNavLink]", has_text="Inspect")
    opened = "document.querySelector('[data-testid=stSidebar]').getBoundingClientRect().right > 50"
    page.locator("[data-testid=stExpandSidebarButton]").click()
    page.wait_for_function(opened)
    page.wait_for_timeout(1500)  # reruns meanwhile leave it open
    assert page.evaluate(opened)
    link.click()
    page.get_by_role("heading", name="Inspect", level=1).wait_for()
    page.wait_for_function(f"!({opened})")


def test_that_an_edit_is_on_is_said_where_the_bar_at_the_side_is_folded_away(visit: Any) -> None:
    page = visit()
    ready(page)
    fit(page)
    compare(page)
    badge, opened = (
        page.locator(".st-key-edit-on .on"),
        "document.querySelector('[data-testid=stSidebar]').getBoundingClientRect().right > 50",
    )
    assert not badge.is_visible(), "the bar says it"
    for width in (480, 1280):
        _is_said(page, badge, opened, width)


def _is_said(page: Any, badge: Any, opened: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(1500)  # a narrow screen folds the bar by itself
    if page.evaluate(opened):
        page.locator("[data-testid=stSidebarHeader]").hover()  # the button shows under the pointer
        page.locator("[data-testid=stSidebarCollapseButton] button").click()
    page.wait_for_function(f"!({opened})")
    badge.wait_for()
    page.locator("[data-testid=stMain]").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    box = badge.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] >= 0 and box["y"] + box["height"] <= 100
    others = page.locator("[data-testid=stHeader] button:visible, [data-testid=stHeader] img:visible").all()
    for other in filter(None, (item.bounding_box() for item in others)):
        assert box["x"] + box["width"] <= other["x"] or other["x"] + other["width"] <= box["x"], "nothing of the head lies over it"
