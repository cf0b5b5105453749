"""Thirty learners follow one teacher's link at once, on one process: is everybody answered, does nothing cross, is the table right?

    python -m benchmarks.classroom --learners 30

Measured: seconds from a click to the drawn page, whether a prompt or a cookie of one reaches another, and whether the teacher's table says
of each learner what they did: their name, their hints, and whether their run passed the step. Ends with 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from benchmarks.learners_server import Server
from benchmarks.streamlit_client import SocketTab
from workbench.workspace.home import Workspace
from workbench.workspace.learning import ClassLink, Learning

LESSON, MEDIAN_S = "lens", 2.0


@dataclass(frozen=True)
class Figures:
    """The result. `wrong` are rows of the teacher's table that do not say what their learner did."""

    learners: int
    actions: int
    median_s: float
    longest_s: float
    crossed: int
    wrong: int
    failed: tuple[str, ...]


@dataclass
class Seen:
    """Seconds of each answer, what failed, and secrets of one learner that reached another."""

    answers: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)


@dataclass
class Pupil:
    """A learner of the class: what they are called, how many hints they take, and whether they ask what the step asks for."""

    number: int
    tab: SocketTab
    secret: str

    @property
    def name(self) -> str:
        return f"Pupil {self.number}"

    @property
    def hints(self) -> int:
        return self.number % 3

    @property
    def is_right(self) -> bool:
        return self.number % 2 == 0

    async def work(self, seen: Seen) -> None:
        """Follow the link, say a name, take hints, read a prompt of one's own on Inspect."""
        try:
            await self._work(seen)
        except Exception as error:  # noqa: BLE001 - one who fails is a figure, not an end
            seen.failed.append(f"{self.number}: {error!r}")
        finally:
            await self.tab.close()

    async def _work(self, seen: Seen) -> None:
        tab, answers = self.tab, seen.answers
        answers.append(await tab.open())
        tab.type("lesson-name", self.name)
        answers.append(await tab.run(120))
        for _ in range(self.hints):
            answers.append(await tab.click("lesson-hint"))
        answers.append(await tab.go("inspect"))
        tab.type("inspect-prompt", f"{self.secret} {'carrots' if self.is_right else 'apples'} help most")
        answers.append(await tab.click("lens-run"))
        until = time.monotonic() + 60
        while time.monotonic() < until and "lens-grid" not in tab.ids:
            await asyncio.sleep(1)
        answers.append(await tab.go("inspect"))


def _class_of(n: int, url: str, link: ClassLink, seen: Seen) -> list[Pupil]:
    words, found = [token_hex(16) for _ in range(n)], list[Pupil]()
    secrets = [f"zebra{word[:10]}" for word in words]
    for i, word in enumerate(words):
        foreign = [told.encode() for j in range(n) if j != i for told in (secrets[j], words[j], f'"Pupil {j}"')]

        def look(raw: bytes, i: int = i, foreign: list[bytes] = foreign) -> None:
            seen.crossed.extend(f"{told.decode()} reached {i}" for told in foreign if told in raw)

        found.append(Pupil(i, SocketTab(url, f"retouch_person={word}", look, f"class={link.id}"), secrets[i]))
    return found


def wrong_rows(learning: Learning, link: ClassLink, pupils: list[Pupil]) -> list[str]:
    """What the teacher's table says otherwise than it was."""
    rows: dict[str, dict[str, Any]] = {row["learner"]: row for row in learning.table(link)}
    found = [f"{name} is no learner" for name in rows.keys() - {one.name for one in pupils}]
    for one in pupils:
        row = rows.get(one.name)
        if row is None:
            found.append(f"{one.name} is missing")
            continue
        passed = any(step.facts for step in learning.steps(row["person"], link.lesson))
        if (row["hints"], passed, row["step"]) != (one.hints, one.is_right, 1):
            found.append(f"{one.name}: {row}, passed {passed}")
    return found


async def _all(pupils: list[Pupil], seen: Seen) -> None:
    await asyncio.gather(*(one.work(seen) for one in pupils))


def measured(learners: int = 30, folder: Path | None = None) -> tuple[Figures, list[str]]:
    """Let a class follow a link; return the figures, and what the table says wrongly."""
    with tempfile.TemporaryDirectory() as room:
        at = folder or Path(room)
        with Server(at) as server:
            learning, seen = Workspace(at / "home").learning, Seen()
            link = learning.new_class("teacher", LESSON, "embedded")
            pupils = _class_of(learners, server.url, link, seen)
            asyncio.run(_all(pupils, seen))
            wrong = wrong_rows(learning, link, pupils)
    told = (statistics.median(seen.answers), max(seen.answers)) if seen.answers else (float("nan"), float("nan"))
    return Figures(learners, len(seen.answers), *told, len(seen.crossed), len(wrong), tuple(seen.failed[:3])), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--learners", type=int, default=30)
    found, wrong = measured(parser.parse_args().learners)
    print(json.dumps(asdict(found), indent=1))
    print("\n".join(wrong[:5]))
    sys.exit(bool(wrong or found.crossed or found.failed or found.median_s > MEDIAN_S))


if __name__ == "__main__":
    main()
