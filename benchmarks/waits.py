"""What a person waits for on a real model: fits on 100 pairs, the verdict after a fit on 200, and a choice by validation.

    python -m benchmarks.waits fits [--methods sea hpr] [--model smollm2-135m]     # seconds a fit, by what it was doing
    python -m benchmarks.waits verdict                                             # of a mean difference and a SEA fit: aim 15 s
    python -m benchmarks.waits choose [--methods mean_difference]                  # beside one fit and evaluation: aim 4 times

Pairs are those of the battery's contrast tasks, in a fixed random order; TaRot takes its reviews. Memory is the process's highest so far.
`seconds` is wall clock, `processor` what the process used: on a machine that others share the second is the truer one, and with one thread
an upper bound of the first.
Aims (two quiet cores): after the activations mean difference and SEA 5 s, HPR 30 s, ARE 120 s, TaRot of 124 calls 300 s.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.battery import task
from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Lane, Named
from workbench.errors import RetouchError
from workbench.methods import get
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.progress import Progress, Report
from workbench.session import Session
from workbench.settings import EvaluateSettings

CONTRAST = ("mood", "politeness", "declining", "one-sentence", "popular")
FITS: dict[str, tuple[dict[str, Any], float]] = {
    "mean_difference": ({}, 5.0),
    "sea": ({}, 5.0),
    "angular": ({}, 5.0),
    "hpr": ({}, 30.0),
    "are": ({}, 120.0),
    "tarot": ({"budget": 124}, 300.0),
}
"""Knobs, and the aim in seconds after the activations."""
READING = ("Collecting activations", "Generating", "Answering")
"""Reports of work that an aim does not count."""
LOOKING = ("Pushing layers",)
"""Of the rest, what finds a layer where none is named: it is made once for a set, whatever is fitted on it."""
VERDICT_WITHIN_S, CHOICE_WITHIN = 15.0, 4.0


def pairs(model: LanguageModel, n_fit: int, n_validation: int = 40, n_test: int = 100) -> Demonstrations:
    """So many pairs of all contrast tasks together, drawn in a fixed order."""
    rows = [row for name in CONTRAST for row in task(name, model).rows]
    order, kept = np.random.default_rng(0).permutation(len(rows)), []
    for split, n in (("fit", n_fit), ("validation", n_validation), ("test", n_test)):
        mine = [rows[i] for i in order if rows[i].split == split]
        if len(mine) < n:
            raise ValueError(f"The tasks have {len(mine)} rows of split {split}; {n} were asked for.")
        kept += mine[:n]
    return Demonstrations(tuple(kept), f"{n_fit} pairs")


@dataclass
class Clock:
    """Seconds by what was being done: the time up to a report belongs to what it reports."""

    wall: float = field(default_factory=time.perf_counter)
    used: float = field(default_factory=time.process_time)
    by: dict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))

    def __post_init__(self) -> None:
        self.begun, self.last = (self.wall, self.used), self.wall

    def tell(self, report: Report) -> None:
        now = time.perf_counter()
        self.by[report.doing] += now - self.last
        self.last = now

    def spent(self) -> tuple[float, float]:
        """Seconds of wall clock and of the processor since it was made."""
        return time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


def fits(model: LanguageModel, methods: list[str]) -> None:
    """Print what a fit on 100 pairs takes, and how much of it is reading."""
    contrast, reviews = pairs(model, 100), task("sentiment", model).rows
    print(
        "| method | rows | seconds | processor | after reading | of it, which layer | aim | memory, GB | most of it |",
        "|" + "---|" * 9,
        sep="\n",
    )
    for name in methods:
        knobs, aim = FITS[name]
        rows, method, clock = reviews if name == "tarot" else contrast, get(name), Clock()
        try:
            method.fit(model, rows, method.configure(knobs), seed=0, progress=Progress(clock.tell))
            said = "; ".join(f"{what} {took:.1f}" for what, took in sorted(clock.by.items(), key=lambda one: -one[1])[:4])
        except RetouchError as error:
            said = f"refused: {error}"
        wall, used = clock.spent()
        reading = sum(took for what, took in clock.by.items() if what.startswith(READING))
        n, looking = len(rows.split("fit")), sum(took for what, took in clock.by.items() if what.startswith(LOOKING))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        after = f"{wall - reading:.1f} | {looking:.1f} | {aim:g} | {memory:.1f}"
        print(f"| {name} | {n} | {wall:.1f} | {used:.1f} | {after} | {said} |", flush=True)


def verdict(session: Session, methods: list[str]) -> None:
    """Print when an edit of 200 pairs can be used, and when its first verdict stands."""
    rows = pairs(session.model, 200)
    print("| method | fit | verdict after the fit | its processor | rows | texts | verdict |", "|" + "---|" * 7, sep="\n")
    for name in methods:
        took = Clock()
        edit = session.fit(name, rows).edit
        fitted, clock = took.spent()[0], Clock()
        wanted = EvaluateSettings((Lane((Named(edit.id, 1.0),)),), rows, n_placebos=2, n_generations=0, seconds=10.0)
        found = session.run(wanted)
        wall, used = clock.spent()
        n_texts = found.side_effects.n_texts if found.side_effects else 0
        told = f"{wall:.1f} | {used:.1f} | {found.benefit.n} | {n_texts} | {found.verdict.sentence}"
        print(f"| {name} | {fitted:.1f} | {told} |", flush=True)


def choose(session: Session, methods: list[str]) -> None:
    """Print what a choice costs beside one fit and one evaluation on the same rows."""
    rows = pairs(session.model, 100)
    print("| method | fit and evaluation | choice | ratio, processor | settings | says |", "|" + "---|" * 6, sep="\n")
    for name in methods:
        one = Clock()
        session.evaluate(session.fit(name, rows).edit, rows)
        wall, used = one.spent()
        clock = Clock()
        try:
            found = session.choose(name, rows, progress=Progress(clock.tell))
            n, said = len(found.candidates), f"dose {found.best.dose:g}, {found.best.values}"
        except RetouchError as error:
            n, said = 0, str(error)[:80]
        took, spent = clock.spent()
        print(f"| {name} | {wall:.1f} | {took:.1f} | {spent / used:.2f} | {n} | {said} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fits", "verdict", "choose"))
    parser.add_argument("--methods", nargs="*", choices=FITS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.model)
    torch.set_num_threads(args.threads)
    if args.what == "fits":
        fits(model, args.methods or list(FITS))
        return
    run: Callable[[Session, list[str]], None] = verdict if args.what == "verdict" else choose
    with tempfile.TemporaryDirectory() as folder:
        run(Session(model, folder, records=False), args.methods or ["mean_difference", "sea"])


if __name__ == "__main__":
    main()
