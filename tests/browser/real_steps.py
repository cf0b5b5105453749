"""What a person does with files on the real model: a set of questions and one of chats are imported, fitted, compared as chat, branched,
mended by a span of an answer, and fitted again.

    python -m tests.browser.real_steps WORKSPACE      # where smollm2-135m lies; prints seconds a step

It takes minutes on two cores, so it is run by hand; the same steps on the embedded model are in the browser tests of each page.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.browser.conftest import FLAGS, Server, needed_chromium
from tests.browser.steps import goto, idle, ready
from tests.real_wheel import NAME

Record = Callable[[str, object], None]
FACTS = (
    ("Do owls turn their heads all the way round?", "They turn them by about 270 degrees", "They turn them all the way round"),
    ("What colour is a polar bear's skin?", "It is black", "It is white"),
    ("Can you see stars from the bottom of a well by day?", "No, the sky is too bright", "Yes, if the well is deep"),
    ("Does hair grow back thicker when shaved?", "No, it only looks so", "Yes, it grows back thicker"),
    ("How long does a goldfish remember?", "For months", "For three seconds"),
    ("Do camels keep water in their humps?", "They keep fat there", "They keep water there"),
    ("Is glass a liquid that flows slowly?", "It is a solid", "It is a slow liquid"),
    ("Do bulls hate the colour red?", "They react to movement", "Red makes them angry"),
)


def questions(folder: Path) -> Path:
    """A file as TruthfulQA's: invented rows in its columns."""
    path = folder / "questions.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"))
        for again in range(3):
            for question, right, wrong in FACTS:
                asked = question if not again else f"{('Please tell me', 'A short question')[again - 1]}: {question}"
                writer.writerow(
                    ("Adversarial", "Misconceptions", asked, right, f"{right}; {right} indeed", f"{wrong}; {wrong} indeed", "-")
                )
    return path


def chats(folder: Path) -> Path:
    """A file of preferences between two answers of an assistant: plain ones are chosen, flowery ones rejected."""

    def talk(asked: str, said: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]

    path = folder / "chats.jsonl"
    rows = [
        {"chosen": talk(asked, f"{right}."), "rejected": talk(asked, f"Oh, what a wonderful question, my dear friend! {right}, truly!")}
        for question, right, _ in FACTS
        for asked in (question, f"In one sentence: {question}", f"A child asks: {question}")
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def imported(page: Any, path: Path) -> None:
    goto(page, "Demonstrations")
    page.locator(".st-key-set-import button").click()
    page.locator("[data-testid='stFileUploaderDropzoneInput']").set_input_files(str(path))
    page.get_by_text("24 good rows").wait_for()
    page.get_by_role("button", name="Open it").click()
    page.get_by_text("24 rows: ").first.wait_for()


def fitted(page: Any, record: Record, name: str) -> None:
    """Fit with these rows, up to the verdict."""
    began = time.monotonic()
    page.locator(".st-key-set-fit button").click()
    page.get_by_role("heading", name="Edit", level=1).wait_for()
    idle(page)
    page.locator(".st-key-fit button").first.click()
    page.locator(".st-key-running-fit").wait_for()  # what an earlier fit left stands there until then
    page.locator(".st-key-running-fit").wait_for(state="detached", timeout=600_000)
    page.locator(".st-key-fit-compare button").first.wait_for()
    record(f"{name}_fit_s", round(time.monotonic() - began, 1))


def compared(page: Any, record: Record, name: str) -> None:
    """Compare as chat, 24 tokens."""
    page.locator(".st-key-fit-compare button").first.click()
    page.get_by_role("heading", name="Compare", level=1).wait_for()
    idle(page)
    page.get_by_text("Sampling", exact=True).first.click()
    number = page.locator(".st-key-sample-n input")
    number.fill("24")
    number.press("Enter")
    idle(page)
    began = time.monotonic()
    page.locator(".st-key-compare button").first.click()
    page.get_by_text("KL to base").first.wait_for(timeout=300_000)
    record(f"{name}_compare_s", round(time.monotonic() - began, 1))
    idle(page)


def branched(page: Any) -> None:
    """Another token than the lane's third; all lanes go on from there."""
    page.locator(".st-key-compare-0-1-strip .token").nth(2).click()
    drawer = page.locator(".st-key-compare-0-1-drawer")
    drawer.wait_for()
    drawer.locator("[data-testid='stButtonGroup'] button").nth(2).click()  # behind the one that tells what it is for
    idle(page)
    page.get_by_role("button", name="Branch here").first.click()
    page.get_by_role("heading", name="Branches").wait_for()
    page.locator("[class*='st-key-branch-0-1-0-1-strip'] .token").first.wait_for(timeout=300_000)


def mended(page: Any, record: Record, source: str) -> None:
    """A span of the edited answer is a negative, the base's answer the positive; the set with this pair is fitted again."""
    page.locator(".st-key-compare-0-1-span-negative button").first.click()
    page.get_by_text("as a negative").first.wait_for()
    page.locator(".st-key-compare-0-0-positive button").first.click()
    page.get_by_text("as a positive").first.wait_for()
    goto(page, "Demonstrations")
    page.locator("[class*='st-key-set-picker-'] input").first.click()
    page.get_by_role("option").filter(has_text=source).first.click()
    idle(page)
    page.locator(".st-key-set-manage button").first.click()
    merge = page.locator("[class*='st-key-set-merge-'] input").first
    merge.click()
    merge.fill("judged answers")
    merge.press("Enter")
    idle(page)
    page.keyboard.press("Escape")
    page.locator(".st-key-set-merge button").click()
    page.get_by_text("25 rows: ").first.wait_for()
    fitted(page, record, "again")


def walk(page: Any, folder: Path, record: Record) -> None:
    """All of it, the model being there."""
    began = time.monotonic()
    imported(page, questions(folder))
    fitted(page, record, "questions")
    compared(page, record, "questions")
    imported(page, chats(folder))
    fitted(page, record, "chats")
    compared(page, record, "chats")
    branched(page)
    mended(page, record, "chats")
    record("real_walk_s", round(time.monotonic() - began, 1))


def main() -> None:
    """The walk in a browser of its own, on a model that is in the workspace."""
    from playwright.sync_api import sync_playwright

    def told(name: str, value: object) -> None:
        sys.stdout.write(f"{name} {value}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as room, sync_playwright() as play:
        home = Path(room)
        (home / "workspace").symlink_to(Path(sys.argv[1]).resolve())
        server = Server(home)
        browser = play.chromium.launch(executable_path=needed_chromium(), headless=True, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            page.goto(server.url)
            ready(page)
            page.locator(".st-key-start-real button").click()
            page.locator(".st-key-statusbar").get_by_text(f"{NAME} ·").wait_for(timeout=300_000)
            walk(page, home, told)
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
