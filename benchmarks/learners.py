"""A class on one machine: many simulated learners and some browsers use one server of two cores while fits run and wait.

    python -m benchmarks.learners --learners 30 --fits 5 --browsers 2 --minutes 10

Measured: seconds from a click to the drawn page, whether anything of one person reaches another, memory, threads, files and hooks of the
server, and whether the base model's logits are bit-equal after. Memory is what is left once all is closed and passes that are kept up to a
limit are dropped, against the same behind a shorter lesson before. Ends with 1 where the aims of `AIMS` are missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex

from benchmarks.learners_server import Server, Vital
from benchmarks.streamlit_client import SocketTab

AIMS = {"median_s": 2.0, "p95_s": 6.0, "crossed": 0, "mb_per_100_actions": 1.0, "failed": 0}
PAGES = ("", "model", "inspect", "demonstrations", "edit", "compare", "spectra", "evaluate", "library", "learn")
# Methods that take a while: somebody always fits.
SLOW = ("tarot", "are", "hpr", "sea", "angular")
THINKS_S = (2.0, 6.0)
_SWITCHES = 5
# Of the time, before it is measured.
_WARMED = 0.2


@dataclass
class Seen:
    """What was measured: seconds of each answer, what failed, and secrets of one person that reached another."""

    answers: list[float] = field(default_factory=list)
    actions: int = 0
    failed: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    n_fits: int = 0
    n_switches: int = 0
    browser: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Figures:
    """The result. Seconds from a click to the drawn page; MB of the server."""

    learners: int
    fits: int
    minutes: float
    actions: int
    median_s: float
    p95_s: float
    longest_s: float
    browser_median_s: float | None
    crossed: int
    failed: int
    fits_begun: int
    switches: int
    before: Vital
    warmed: Vital
    after: Vital
    mb_per_100_actions: float
    is_bit_equal: bool
    first_failure: str


@dataclass
class Learner:
    """One person at one tab; their secret is a word that stands in their prompts."""

    number: int
    tab: SocketTab
    secret: str
    chance: random.Random
    fits: bool

    async def live(self, until: float, seen: Seen) -> None:
        """Use the app until the time is over; whatever fails is noted and life goes on."""
        try:
            seen.answers.append(await self.tab.open())
        except Exception as error:  # noqa: BLE001 - one who cannot come in is a figure, not an end
            seen.failed.append(f"{self.number} opening: {error!r}")
            return
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(*THINKS_S))
            try:
                await (self._fit(seen) if self.fits else self._browse(seen))
            except Exception as error:  # noqa: BLE001 - as above
                seen.failed.append(f"{self.number}: {error!r}")
        await self.tab.close()

    async def _go(self, page: str, seen: Seen) -> None:
        seen.answers.append(await self.tab.go(page))
        seen.actions += 1

    async def _press(self, key: str, seen: Seen) -> bool:
        """Click a button if the page has it; say whether it had."""
        if key not in self.tab.ids:
            return False
        seen.answers.append(await self.tab.click(key))
        seen.actions += 1
        return True

    async def _fit(self, seen: Seen) -> None:
        """Keep a fit running or waiting; now and then cancel it."""
        await self._go("edit", seen)
        if "fit-cancel" not in self.tab.ids:
            seen.n_fits += await self._press("fit", seen)
        elif self.chance.random() < 0.1:
            await self._press("fit-cancel", seen)

    async def _browse(self, seen: Seen) -> None:
        page = self.chance.choice(PAGES)
        await self._go(page, seen)
        if page == "compare" and "compare-prompts" in self.tab.ids:
            self.tab.type("compare-prompts", f"Question: What do {self.secret} hate? Answer:")
            await self._press("compare", seen)
        elif page == "inspect":
            await self._press("lens-run", seen)
        elif page == "model":
            await self._press("model-predict", seen)

    async def switch(self, until: float, seen: Seen) -> None:
        """Turn to the Backpack and back, a few times."""
        await self.tab.open()
        for _ in range(_SWITCHES):
            for name in ("embedded-backpack", "embedded"):
                await self._go("model", seen)
                is_pressed = await self._press(f"load-{name}", seen)
                await asyncio.sleep(4)
                seen.n_switches += is_pressed and name != "embedded"
            if time.monotonic() > until:
                break
        await self.tab.close()


def class_of(n: int, n_fits: int, url: str, seen: Seen) -> list[Learner]:
    """Learners who each watch for the secrets of all others in whatever reaches them."""
    words = [token_hex(16) for _ in range(n)]
    secrets = [f"zebra{word[:10]}" for word in words]
    found: list[Learner] = []
    for i, word in enumerate(words):
        foreign = [told.encode() for j in range(n) if j != i for told in (secrets[j], words[j])]

        def look(raw: bytes, i: int = i, foreign: list[bytes] = foreign) -> None:
            seen.crossed.extend(f"{told.decode()} reached {i}" for told in foreign if told in raw)

        fits = i < n_fits
        query = f"method={SLOW[i % len(SLOW)]}" if fits else ""
        found.append(Learner(i, SocketTab(url, f"retouch_person={word}", look, query), secrets[i], random.Random(i), fits))
    return found


async def browse(url: str, until: float, seen: Seen) -> None:
    """A real browser: seconds from a click in the menu to the page's heading."""
    from playwright.async_api import async_playwright

    from benchmarks.learners_server import chromium

    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        page.set_default_timeout(120_000)
        await page.goto(url)
        links, chance = page.locator("[data-testid='stSidebarNavLink']"), random.Random(99)
        await links.first.wait_for()
        while time.monotonic() < until:
            link = links.nth(chance.randrange(await links.count()))
            title = (await link.inner_text()).strip().splitlines()[-1]
            began = time.monotonic()
            await link.click()
            await page.get_by_role("heading", name=title, level=1).wait_for()
            seen.browser.append(time.monotonic() - began)
            seen.actions += 1
            await asyncio.sleep(chance.uniform(*THINKS_S))
        await browser.close()


async def _lesson(server: Server, learners: list[Learner], browsers: int, minutes: float, seen: Seen) -> None:
    """Everybody at once."""
    until = time.monotonic() + 60 * minutes
    people = [one.live(until, seen) for one in learners]
    people += [browse(server.url, until, seen) for _ in range(browsers)]
    switcher = class_of(1, 0, server.url, seen)[0]
    for found in await asyncio.gather(*people, switcher.switch(until, seen), return_exceptions=True):
        if isinstance(found, BaseException):
            seen.failed.append(repr(found))


def measured(learners: int = 30, fits: int = 5, browsers: int = 0, minutes: float = 2.0, folder: Path | None = None) -> Figures:
    """Run a lesson and return its figures."""
    with tempfile.TemporaryDirectory() as room, Server(folder or Path(room)) as server:
        before, logits = server.vital(), server.probe()
        # What is imported, cached and kept up to a limit grows at first: memory is that of a longer lesson behind a shorter one.
        first, seen = Seen(), Seen()
        asyncio.run(_lesson(server, class_of(learners, fits, server.url, first), 0, minutes * _WARMED, first))
        server.settle()
        warmed = server.vital()
        asyncio.run(_lesson(server, class_of(learners, fits, server.url, seen), browsers, minutes, seen))
        server.settle()
        after, logits_after = server.vital(), server.probe()
    ordered = sorted(seen.answers)
    return Figures(
        learners, fits, minutes, seen.actions,
        statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))], ordered[-1],
        statistics.median(seen.browser) if seen.browser else None,
        len(seen.crossed), len(seen.failed), seen.n_fits, seen.n_switches, before, warmed, after,
        100 * (after.mb - warmed.mb) / max(1, seen.actions), logits == logits_after, next(iter(seen.failed), ""),
    )  # fmt: skip


def missed(found: Figures) -> list[str]:
    """The aims that were missed, as sentences; memory is judged over five minutes and more, when caches are full."""
    told = asdict(found)
    judged = [name for name in AIMS if name != "mb_per_100_actions" or found.minutes >= 5]
    lacks = [f"{name} is {told[name]:.3g}; at most {AIMS[name]:g} is the aim" for name in judged if told[name] > AIMS[name]]
    return lacks + ([] if found.is_bit_equal else ["the base model's logits or hooks are not as before"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--learners", type=int, default=30)
    parser.add_argument("--fits", type=int, default=5, help="how many of them keep a fit running or waiting")
    parser.add_argument("--browsers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10.0)
    asked = parser.parse_args()
    found = measured(asked.learners, asked.fits, asked.browsers, asked.minutes)
    print(json.dumps(asdict(found), indent=1))
    lacks = missed(found)
    print("\n".join(lacks) or "All aims are met.")
    sys.exit(bool(lacks))


if __name__ == "__main__":
    main()
