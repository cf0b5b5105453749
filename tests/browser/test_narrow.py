"""A narrow screen: the opened menu lies over the page, and goes once a page is chosen."""

from __future__ import annotations

from typing import Any

import pytest

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
