"""The loop in a real browser: fit, compare, keep, come back, look inside; two people, reloads, files, narrow and dark windows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.steps import compare, fit, goto, idle, inspect, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
Visit = Callable[..., Any]


def test_the_page_answers_while_the_model_still_loads(server: Server, visit: Visit) -> None:
    page = visit()
    assert page.get_by_role("heading", name="Start", level=1).is_visible()
    assert page.locator(".st-key-start-truthful button").is_enabled()
    ready(page)


def test_nothing_is_fetched_from_another_machine(server: Server, visit: Visit) -> None:
    page = visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.get_by_role("heading", level=1).first.wait_for()
    idle(page)
    assert any(url.startswith(server.url) for url in asked)
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []


def test_three_clicks_make_the_model_truthful_and_the_edit_outlives_the_tab(visit: Visit) -> None:
    page = visit()
    ready(page)
    fit(page)
    assert page.get_by_text("with the edit").first.is_visible()
    page.locator(".js-plotly-plot").get_by_text("placebo").first.wait_for()  # an axis label: drawn when the picture is
    page.get_by_role("button", name="Save").first.click()
    page.get_by_label("Name", exact=True).fill("truthful sea")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("Saved as truthful sea").first.wait_for()
    compare(page)
    assert "EDIT ON" in page.locator(".st-key-statusbar").inner_text()
    page.locator(".st-key-compare-0-1-strip .token").first.wait_for()
    page.context.close()
    again = visit("library")
    ready(again)
    again.get_by_role("heading", name="truthful sea").wait_for()
    assert "truthful sea" in again.locator("[data-testid='stMain']").inner_text()


def test_what_was_fitted_is_seen_from_every_page(visit: Visit) -> None:
    page = visit()
    ready(page)
    fit(page)
    compare(page)
    goto(page, "Spectra")
    page.locator("[data-testid='stMain'] .js-plotly-plot").first.wait_for()
    goto(page, "Demonstrations")
    assert page.locator("[data-testid='stAlert']").count() == 0


def test_a_click_on_the_lens_grid_opens_its_drawer_and_the_selectors_do_the_same(visit: Visit) -> None:
    page = visit()
    ready(page)
    inspect(page)
    before = page.locator(".st-key-drawer-lens").inner_text()
    cell = page.locator(".st-key-lens-grid td button[tabindex='0']").first
    name, content = cell.get_attribute("aria-label"), cell.inner_text()
    assert content and f": {content}, " in name and ", token " in name, "what a cell shows is in its name"
    cell.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('.st-key-drawer-lens')?.innerText !== before", arg=before)
    assert page.locator(".st-key-drawer-lens").inner_text() != before


def test_a_pinned_token_shows_its_top_five(visit: Visit) -> None:
    page = visit("compare")
    ready(page)
    page.locator(".st-key-compare button").first.click()
    page.locator(".st-key-compare-0-0-strip .token").first.wait_for()
    idle(page)
    page.locator(".st-key-compare-0-0-strip .token").first.hover()
    page.locator(".st-key-compare-0-0-strip .card .row").nth(4).wait_for()
    assert page.locator(".st-key-compare-0-0-strip .card .row").count() == 5
    page.locator(".st-key-compare-0-0-strip .token").first.click()
    page.locator(".st-key-compare-0-0-top").wait_for()
    page.locator(".st-key-compare-0-0-top [data-testid='stDataFrame']").wait_for()


def test_two_people_at_once_do_not_see_each_others_edit(visit: Visit) -> None:
    one, other = visit(), visit()
    ready(one)
    ready(other)
    fit(one)
    one.locator(".st-key-fit-compare button").first.click()
    one.get_by_role("heading", name="Compare", level=1).wait_for()
    idle(one)
    goto(other, "Compare")
    assert "EDIT ON" in one.locator(".st-key-statusbar").inner_text()
    assert "BASE" in other.locator(".st-key-statusbar").inner_text()


def test_a_reload_during_a_fit_finds_the_job_again(visit: Visit) -> None:
    page = visit()
    ready(page)
    goto(page, "Edit")
    page.locator(".st-key-fit button").first.click()
    page.wait_for_function("() => location.search.includes('jobs=fit')")
    page.reload()
    ready(page)
    page.get_by_text("with the edit").first.wait_for()
    assert page.locator(".st-key-fit-compare button").first.is_visible()
    page.wait_for_function("() => !location.search.includes('jobs=fit')")  # it leaves with the rerun after the one that drew the result


def test_a_file_goes_in_and_comes_out_again(visit: Visit, tmp_path: Any) -> None:
    mine = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"Question: What is number {i}? Answer:", "positive": " gut", "negative": " eyes", "split": "fit"} for i in range(4)]
    mine.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n", encoding="utf-8")
    page = visit("demonstrations")
    ready(page)
    page.locator(".st-key-set-import button").click()
    page.locator("[data-testid='stFileUploaderDropzoneInput']").set_input_files(str(mine))
    page.get_by_text("4 good rows").wait_for()
    page.get_by_role("button", name="Open it").click()
    page.get_by_text("4 rows: 4 fit").wait_for()
    with page.expect_download() as caught:
        page.locator(".st-key-set-download button").click()
    back = [json.loads(line) for line in caught.value.path().read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in back] == [row["prompt"] for row in rows]


@pytest.mark.parametrize("title", ["Start", "Model", "Demonstrations", "Edit", "Compare"])
def test_a_narrow_window_never_scrolls_sideways(visit: Visit, title: str) -> None:
    page = visit("" if title == "Start" else title.lower(), width=600)
    ready_text = page.locator("[data-testid='stMain']")
    ready_text.wait_for()
    idle(page)
    wide = page.evaluate("() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth; }")
    assert wide <= 1


def test_the_dark_theme_is_dark(visit: Visit) -> None:
    page = visit(scheme="dark")
    ground = page.evaluate("() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert ground == "rgb(22, 24, 29)"


def test_a_backpack_is_loaded_and_taught_one_example(visit: Visit) -> None:
    page = visit("model")
    ready(page)
    page.locator(".st-key-load-embedded-backpack button").click()
    # It may be there before its loading was seen.
    here = page.locator("[data-testid='stSidebar']").get_by_text("embedded-backpack ·")
    page.get_by_text("Loading embedded-backpack").or_(here).first.wait_for()
    goto(page, "Senses")  # whoever goes on while it loads gets it there
    page.locator(".st-key-teach-run button").click()
    page.get_by_text("The loss on neutral text rose by").wait_for()
    idle(page)
    assert page.locator("[data-testid='stPlotlyChart']").count() == 2
    assert page.locator(".st-key-teach-keep button").first.is_visible()
    page.get_by_text("Where senses are read", exact=True).first.click()
    page.get_by_text("The cells add up to the target").wait_for()
