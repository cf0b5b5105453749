"""What a screen reader or a person with weak sight meets: no serious finding of axe-core on any page, light or dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from tests.browser.steps import compare, fit, goto, inspect, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
PAGES = ("Start", "Model", "Inspect", "Demonstrations", "Edit", "Compare", "Spectra", "Senses", "Evaluate", "Library", "Learn")
SERIOUS = ("serious", "critical")


def findings(page: Any) -> list[str]:
    """Serious and critical violations on the page as it is, each with the first element it is about.

    What is gone a moment later was being drawn anew: Streamlit pales such parts, and no one reads them so.
    """
    found = _read(page)
    if not found:
        return []
    page.wait_for_timeout(3000)
    again = set(_read(page))
    return [one for one in found if one in again]


def _read(page: Any) -> list[str]:
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("async () => await axe.run({resultTypes: ['violations']})")
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found["violations"] if one["impact"] in SERIOUS]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding_as_opened_nor_with_results(visit: Any, scheme: str) -> None:
    page = visit(width=1360, scheme=scheme)
    ready(page)
    found = dict[str, list[str]]()
    for title in PAGES:
        goto(page, title)
        found[title] = findings(page)
    fit(page)
    found["Edit, fitted"] = findings(page)
    compare(page)
    found["Compare, drawn"] = findings(page)
    inspect(page)
    found["Inspect, drawn"] = findings(page)
    planted = '<img src="x.png"><p style="position:fixed;top:50%;left:50%;z-index:1000000;color:#bbb;background:#ccc">pale words</p>'
    page.evaluate("html => document.querySelector('[data-testid=stMainBlockContainer]').insertAdjacentHTML('beforeend', html)", planted)
    control = findings(page)
    assert {title: told for title, told in found.items() if told} == {}
    assert any("image-alt" in told for told in control) and any("color-contrast" in told for told in control), "it would be seen"
