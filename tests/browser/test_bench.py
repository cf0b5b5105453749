"""Compare as a bench in a real browser: a moved dose is heard at once, and a token branches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.steps import compare, fit, goto, idle, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
Visit = Callable[..., Any]


def test_a_moved_dose_is_heard_and_a_token_branches(visit: Visit, record_property: Callable[[str, object], None]) -> None:
    page = visit()
    ready(page)
    fit(page)
    compare(page)

    # A moved dose: nothing is pressed, and the lane says its new dose over its new text.
    thumb = page.locator("[data-testid='stSlider']").filter(has_text="Dose of").locator("input").first
    thumb.focus()
    page.keyboard.press("ArrowLeft")
    began = time.monotonic()
    page.locator(".st-key-lane-a-compare-0 .chip").get_by_text("× 1.95").wait_for()
    record_property("dose_to_text_s", time.monotonic() - began)
    idle(page)

    # A token: its drawer, another token instead, and all lanes go on from there.
    began = time.monotonic()
    page.locator(".st-key-compare-0-1-strip .token").first.click()
    page.locator(".st-key-compare-0-1-drawer").wait_for()
    record_property("token_to_drawer_s", time.monotonic() - began)
    page.locator(".st-key-compare-0-1-drawer [data-testid='stButtonGroup'] button").nth(
        2
    ).click()  # behind the one that tells what it is for
    idle(page)
    page.get_by_role("button", name="Branch here").first.click()
    page.get_by_role("heading", name="Branches").wait_for()
    page.locator(".st-key-branch-0-1-0-1-strip .token").first.wait_for()
    tokens = [page.locator(f".st-key-branch-0-1-0-{lane}-strip .token").first.inner_text() for lane in range(2)]
    assert tokens[0] == tokens[1] != page.locator(".st-key-compare-0-1-strip .token").first.inner_text()


def test_the_cut_of_a_spectrum_is_dragged_in_its_figure_which_follows_the_theme(visit: Visit) -> None:
    page = visit(height=1400)
    ready(page)
    fit(page)
    goto(page, "Spectra")
    said = page.locator("[data-testid='stMain']").get_by_text("directions (").first
    assert "As fitted" not in said.inner_text()
    box = page.locator("[class*='st-key-figure-cut-'] .shapelayer path").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=8)
    page.mouse.up()
    page.locator("[data-testid='stMain']").get_by_text("As fitted: ").first.wait_for()
    idle(page)
    ink = "()=>getComputedStyle(document.querySelector(\"[class*='st-key-figure-cut-'] .gtitle\")).fill"
    assert page.evaluate(ink) == "rgb(31, 35, 40)"
    page.emulate_media(color_scheme="dark")  # nothing is pressed
    page.wait_for_function(f"({ink})() === 'rgb(231, 229, 224)'")
