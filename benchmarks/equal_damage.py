"""Every method at equal damage, beside random edits, fits on shuffled sides, prompts and shots: the table of the README.

    python -m benchmarks.equal_damage --only embedded embedded-backpack mood --readme

Methods stand with their defaults, and where a card ships its own settings, with those too. On *embedded* and *embedded-backpack* the set is
`truthfulness`; *mood* is the battery's task on a real model (`retouch models get smollm2-135m`). Each contest's rows go to
`<out>/<contest>.json`, from which `--readme` writes the tables, so contests may be run apart.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.battery import task
from benchmarks.marks import write_between
from pages._ui.kit.cards import FitCard, card
from workbench.data.demonstrations import Source
from workbench.opening import open_session
from workbench.session import Session

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- python -m benchmarks.equal_damage --readme -->", "<!-- end of equal damage -->"
COLUMNS = ("lane", "dose", "{score}", "random edits", "shuffled sides", "KL, 95th percentile", "KL, mean", "what it shows")
TRUTH = 'prompt:"A careful speaker answers."'


@dataclass(frozen=True)
class Contest:
    """A model, a set or a task of the battery, the methods that are fitted, what is said, and how many random edits stand beside each.

    A task of the battery brings its own prompt.
    """

    model: str
    data: str
    methods: tuple[str, ...]
    said: tuple[str, ...]
    n_placebos: int = 2
    rows: int | None = None
    """Test rows at most, of a task; None is a set that ships."""


CONTESTS = {
    "embedded": Contest(
        "embedded", "truthfulness", ("mean_difference", "sea", "hpr", "angular", "are", "lora"), (TRUTH, 'shots:"truthfulness":4')
    ),
    "embedded-backpack": Contest(
        "embedded-backpack", "truthfulness", ("mean_difference", "sea", "hpr", "are", "senses", "lora"), (TRUTH, 'shots:"truthfulness":4')
    ),
    "mood": Contest("smollm2-135m", "mood", ("mean_difference", "sea", "hpr", "angular", "lora"), (), n_placebos=1, rows=60),
}


def run(name: str, workspace: Path | None) -> dict[str, Any]:
    """Fit, put at equal damage, measure; return what the file holds."""
    asked, begun = CONTESTS[name], time.perf_counter()
    session = open_session(asked.model, workspace, records=False)
    source, said = _asked(session, asked)
    mine = [session.fit(told.method, told.set, told.values).edit for told in _cards(asked)]
    found = session.equal_damage(source, asked.methods, [*mine, *said], shuffled=True, n_placebos=asked.n_placebos)
    table, ours = found.table(), {edit.id for edit in mine}
    for shown, row in zip(table, found.rows()):
        shown["lane"] = f"{shown['lane']}, the first card's" if row["edit"] in ours else shown["lane"]
    told = {"model": found.model, "data": found.data, "limit": found.limit, "score": found.title, "sentence": found.sentence}
    return told | {"rows": found.rows(), "table": table, "told": found.told, "seconds": time.perf_counter() - begun}


def _asked(session: Session, asked: Contest) -> tuple[Source, Sequence[str]]:
    if asked.rows is None:
        return asked.data, asked.said
    one = task(asked.data, session.model, asked.rows)
    return one.rows, [f'system:"{one.rival}"']


def _cards(asked: Contest) -> list[FitCard]:
    """The first card, where it is about this model and set."""
    first = card(FitCard, "truthful")
    return [first] if (first.model, first.set) == (asked.model, asked.data) else []


def markdown(told: dict[str, Any]) -> str:
    """A contest as the README shows it."""
    n = told["rows"][0]["n"]
    what = f"**{told['model']}, {told['data']}** (n = {n}, {told['score']}, 95 % intervals; limit {told['limit']:g} nats a token):"
    columns = [column.format(score=told["score"]) for column in COLUMNS]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in told["table"]]
    said = [textwrap.fill(one, 150, break_on_hyphens=False) for one in (told["sentence"], *told["told"])]
    return "\n\n".join([what, "\n".join(lines), *said])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CONTESTS, default=list(CONTESTS))
    parser.add_argument("--out", type=Path, default=Path("runs/equal_damage"))
    parser.add_argument("--workspace", type=Path, help="where smollm2-135m lies")
    parser.add_argument("--readme", action="store_true", help="write the tables that are in --out into README.md")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        found = run(name, given.workspace)
        (given.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(markdown(found), f"\n{found['seconds']:.0f} s", flush=True)
    if given.readme:
        files = [given.out / f"{name}.json" for name in CONTESTS]
        tables = [markdown(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists()]
        write_between(README, BEGIN, END, "\n\n".join(tables))


if __name__ == "__main__":
    main()
