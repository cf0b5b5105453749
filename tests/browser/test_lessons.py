"""A lesson in a real browser: *Show me* rings and presses the page's own buttons, and what they bring ticks the step."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.browser.steps import goto, ready
from workbench.lessons.course import course

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
LESSONS = course().lessons
# All of them take longer than a run of all browser tests may; `tests/app/test_walks.py` presses the same buttons of every lesson.
QUICK = ("lens", "circuit")
WALKED = [name for name in LESSONS if name in QUICK or os.environ.get("RETOUCH_ALL_LESSONS")]


def seen(page: Any, selector: str) -> Any:
    return page.locator(f"{selector} >> visible=true").first


@pytest.mark.parametrize("name", WALKED)
def test_show_me_solves_a_lesson(visit: Any, name: str) -> None:
    page = visit()
    ready(page)
    goto(page, "Learn")
    seen(page, f".st-key-learn-{name} button").click()
    for i, step in enumerate(LESSONS[name].steps):
        page.locator(".steps").get_by_text(f"Step {i + 1} of").wait_for()
        seen(page, ".st-key-lesson-show button").click()
        page.locator(".st-key-lesson").get_by_text("by your own run").wait_for()
        box = page.locator(f".st-key-lesson-saw-{name}-{i} textarea")
        for answer in step.question.answers if step.question else ():
            page.locator(".st-key-lesson label").filter(has_text=answer.say).first.click()
            box.or_(page.locator(".st-key-lesson").get_by_text("help", exact=True)).first.wait_for()
            if box.count():
                break
        box.wait_for()
        if i + 1 < len(LESSONS[name].steps):
            seen(page, ".st-key-lesson-next button").click()
    page.get_by_text("Now you can:").wait_for()
    # It is there in another window of the same person, and after a reload.
    page.reload()
    page.get_by_text("Now you can:").wait_for()


def test_the_panel_stands_beside_and_on_a_narrow_screen_above(visit: Any) -> None:
    page = visit("learn")
    ready(page)
    seen(page, ".st-key-learn-lens button").click()
    page.get_by_role("heading", name="Inspect", level=1).wait_for()

    def at() -> tuple[float, float, float, float]:
        lesson, heading = page.locator(".st-key-lesson").bounding_box(), page.get_by_role("heading", level=1).bounding_box()
        return lesson["x"], lesson["y"], heading["x"], heading["y"]

    x, _, heading_x, _ = at()
    assert x > heading_x + 300
    page.set_viewport_size({"width": 480, "height": 900})
    page.wait_for_timeout(1500)
    _, y, _, heading_y = at()
    assert y < heading_y
    # The answer is the last column: it is in view at first, however narrow the screen.
    seen(page, ".st-key-lens-run button").click()
    scroll = page.locator(".st-key-lens-grid .scroll")
    scroll.locator("thead th").last.wait_for()
    page.wait_for_timeout(500)
    edge, last = scroll.bounding_box(), scroll.locator("thead th").last.bounding_box()
    assert last["x"] + last["width"] <= edge["x"] + edge["width"] + 1 and scroll.evaluate("x => x.scrollLeft") > 0


def test_a_form_beside_a_lesson_has_room(visit: Any) -> None:
    page = visit("learn")
    ready(page)
    page.set_viewport_size({"width": 1360, "height": 900})
    seen(page, ".st-key-learn-placebo button").click()
    fit, panel = seen(page, ".st-key-fit"), page.locator(".st-key-lesson")
    fit.wait_for()
    assert fit.bounding_box()["width"] > 400 and panel.bounding_box()["width"] > 240
    assert fit.bounding_box()["x"] + fit.bounding_box()["width"] < panel.bounding_box()["x"]
    seen(page, ".st-key-lesson-leave button").click()  # control: alone, the form stands beside the picture
    panel.wait_for(state="detached")
    assert fit.bounding_box()["width"] < 400
