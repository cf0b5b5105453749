"""A walk of a person with a clock: fifty good pairs from nothing, up to the edit that they give; times of single clicks are recorded. The
walk on the real model is run by hand (`real_steps`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.steps import goto, idle, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1500)]
Visit = Callable[..., Any]
Record = Callable[[str, object], None]
WITHIN_S = 600.0
THINGS = (
    "owls", "bees", "ice", "snow", "bread", "clouds", "rivers", "bells", "lamps", "kites", "boats", "seeds", "nests", "drums", "coins",
    "maps", "stoves", "wells", "wheels", "ropes", "mills", "tents", "combs", "locks", "pipes", "nets", "masks", "vases", "saws", "axes",
    "tiles", "ovens", "looms", "forks", "keys", "cups", "hats", "rugs", "jars", "oars",
    "gates", "bows",
)  # fmt: skip
ASKED = ("What do carrots help most?", "Where do diamonds come from?", "What does the moon do to sleepers?", "What do bats see with?")


def open_way(page: Any, way: str) -> None:
    """The dialog *New set* at one of its ways."""
    page.locator(".st-key-set-new button").click()
    page.get_by_role("dialog").wait_for()
    page.get_by_role("dialog").get_by_role("radio", name=way).or_(page.get_by_role("dialog").get_by_text(way, exact=True)).first.click()


def felt(page: Any, do: Callable[[], object], seen: Any) -> float:
    """Seconds from a click to what it is answered with."""
    began = time.monotonic()
    do()
    seen.wait_for()
    return time.monotonic() - began


def from_a_template(page: Any) -> None:
    """Four rows to begin with."""
    open_way(page, "Template")
    page.locator(".st-key-template-begin button").click()
    page.get_by_text("4 rows: ").wait_for()


def from_a_paste(page: Any, record: Record) -> None:
    """Forty-two rows of a spreadsheet."""
    open_way(page, "Paste")
    lines = ["\t".join((f"Question: What are {thing} for? Answer:", f" {thing.capitalize()} help.", " Nobody knows.")) for thing in THINGS]
    box = page.locator(".st-key-paste-text textarea")
    box.fill("prompt\tpositive\tnegative\n" + "\n".join(lines))
    record("paste_to_rows_s", felt(page, lambda: box.press("Control+Enter"), page.get_by_text("42 good rows")))
    page.get_by_role("dialog").get_by_role("textbox", name="Name").fill("fifty")
    page.get_by_role("button", name="Open it").click()
    page.get_by_text("42 rows: ").wait_for()


def by_keys(page: Any, record: Record) -> None:
    """Samples of four prompts, one of each kept as good and one as bad."""
    goto(page, "Compare")
    page.get_by_text("Sampling", exact=True).first.click()
    for key, value in (("sample-heat", "1.5"), ("sample-count", "6"), ("sample-n", "12")):
        number = page.locator(f".st-key-{key} input")
        number.fill(value)
        number.press("Enter")
        idle(page)
    for at, question in enumerate(ASKED):
        asked = page.locator(".st-key-compare-prompts textarea")
        asked.fill(f"Question: {question} Answer:")
        asked.press("Control+Enter")
        idle(page)
        page.locator(".st-key-compare button").first.click()
        told = page.locator("[class*='st-key-compare-0-draw-row']")
        told.get_by_text("0 of 6 samples judged").wait_for()
        asked.blur()
        for key in "gb":
            for _ in range(5):  # samples may say the same: go on to one that was not judged
                if "this one is" not in told.inner_text():
                    break
                page.keyboard.press("j")
                idle(page)
            before = told.inner_text()
            began = time.monotonic()
            page.keyboard.press(key)
            page.wait_for_function(
                "([of, before]) => document.querySelector(of)?.innerText !== before", arg=["[class*='st-key-compare-0-draw-row']", before]
            )
            record(f"thumb_{at}_{key}_s", round(time.monotonic() - began, 3))
            idle(page)


def merged(page: Any) -> None:
    """All three as one set, each text once."""
    goto(page, "Demonstrations")
    page.locator(".st-key-set-manage button").first.click()
    merge = page.locator("[class*='st-key-set-merge-'] input").first
    for name in ("my pairs", "judged answers"):
        merge.click()
        merge.fill(name)
        merge.press("Enter")
        idle(page)
    page.keyboard.press("Escape")
    page.locator(".st-key-set-merge button").click()
    page.get_by_text("50 rows: ").first.wait_for()


def test_fifty_good_pairs_are_made_from_nothing_within_ten_minutes(visit: Visit, record_property: Record) -> None:
    page = visit("demonstrations")
    ready(page)
    began = time.monotonic()
    from_a_template(page)
    from_a_paste(page, record_property)
    by_keys(page, record_property)
    merged(page)
    page.locator(".st-key-set-fit button").click()
    page.get_by_role("heading", name="Edit", level=1).wait_for()
    page.locator(".st-key-fit button").first.click()
    page.locator(".st-key-fit-compare button").first.wait_for()
    took = time.monotonic() - began
    record_property("fifty_pairs_s", round(took, 1))
    assert took < WITHIN_S
