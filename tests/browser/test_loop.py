"""The loop in a real browser: fit, compare, look at spectra and layers, and the demonstrations behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.steps import compare, fit, goto, inspect, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
Visit = Callable[..., Any]


def test_the_page_answers_while_the_model_still_loads(server: Server, visit: Visit) -> None:
    page = visit()
    assert page.get_by_role("heading", name="Start", level=1).is_visible()
    assert page.locator(".st-key-start-truthful button").is_enabled()
    ready(page)


def test_the_loop_is_walked_by_clicks(visit: Visit) -> None:
    page = visit()
    page.set_default_timeout(240_000)
    ready(page)
    assert "BASE" in page.locator(".st-key-statusbar").inner_text()
    fit(page)
    assert page.get_by_text("with the edit").first.is_visible()
    compare(page)
    assert "EDIT ON" in page.locator(".st-key-statusbar").inner_text()
    goto(page, "Spectra")
    inspect(page)
    assert page.locator(".st-key-drawer-lens").is_visible()
    goto(page, "Demonstrations")
    assert page.get_by_role("heading", name="Demonstrations", level=1).is_visible()
