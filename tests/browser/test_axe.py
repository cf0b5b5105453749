"""What a screen reader or a person with weak sight meets: no serious finding of axe-core on any page, light or dark."""

from __future__ import annotations

import re
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


def _in_both(page: Any, title: str, found: dict[str, list[str]]) -> None:
    """Read a page as it stands, in the light and in the dark: the app's colours go with the browser's at once."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        found[f"{title}, {scheme}"] = findings(page)
    grounds = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", grounds)[:3])) < 200, "the dark was drawn"
    page.emulate_media(color_scheme="light")


def _read(page: Any) -> list[str]:
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("async () => await axe.run({resultTypes: ['violations']})")
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found["violations"] if one["impact"] in SERIOUS]


def test_no_page_has_a_serious_finding_as_opened_nor_with_results(visit: Any) -> None:
    page = visit(width=1360)
    ready(page)
    found = dict[str, list[str]]()
    for title in PAGES:
        goto(page, title)
        _in_both(page, title, found)
    fit(page)
    _in_both(page, "Edit, fitted", found)
    compare(page)
    _in_both(page, "Compare, drawn", found)
    inspect(page)
    _in_both(page, "Inspect, drawn", found)
    planted = '<img src="x.png"><p style="position:fixed;top:50%;left:50%;z-index:1000000;color:#bbb;background:#ccc">pale words</p>'
    page.evaluate("html => document.querySelector('[data-testid=stMainBlockContainer]').insertAdjacentHTML('beforeend', html)", planted)
    control = findings(page)
    assert {title: told for title, told in found.items() if told} == {}
    assert any("image-alt" in told for told in control) and any("color-contrast" in told for told in control), "it would be seen"
