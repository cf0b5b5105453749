"""Design search: how long 60 trials take, and whether it finds more than random draws, on a table of every design measured once.

    python -m benchmarks.design --table truthfulness name-swaps      measure every design of the fast methods (184 fits a task)
    python -m benchmarks.design --race truthfulness name-swaps       30 paired seeds, 40 trials: hypervolume of search and random
    python -m benchmarks.design --time                            60 trials with their random control, on the embedded model

A table holds gain on 24 validation prompts and damage on neutral text, under `<out>/<task>.json`. Both sides of a race begin with the same
drawn designs, and are compared at equal numbers of trials; the interval is over seeds, of what search covers more than random.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.evaluate.design.bench import MOST_DECADES, DesignBench, DesignTrial
from workbench.evaluate.design.space import fast_methods, space_of
from workbench.numerics.intervals import mean_interval
from workbench.opening import open_session
from workbench.search.fronts import hypervolume
from workbench.search.pool import Pool

PROMPTS, TRIALS, RACED, SEEDS = 24, 60, 40, 30
REFERENCE = (0.0, 0.0)


def few(rows: Demonstrations) -> Demonstrations:
    """The set with as many validation prompts as the table is told on."""
    kept = set(list(dict.fromkeys(rows.split("validation").having("prompt", "positive", "negative").prompts()))[:PROMPTS])
    return rows.where(lambda row: row.split != "validation" or row.prompt in kept)


def table(task: str, out: Path) -> None:
    """Measure every design once; a configuration's doses side by side."""
    session, begun = open_session("embedded", tempfile.mkdtemp(), records=False), time.perf_counter()
    rows = few(session.demos.get(task))
    space = space_of(session.model, fast_methods(session.model, rows))
    found: list[DesignTrial] = []
    with memo.remembering(space.sites):
        bench = DesignBench(session.model, rows, 0)
        for _, group in itertools.groupby(space.designs, key=lambda one: one.config):
            found += bench.trials(list(group), "drawn")
            print(f"{len(found)} of {len(space.designs)}, {time.perf_counter() - begun:.0f} s: {found[-1].design.label}", flush=True)
    told = {"task": task, "n_prompts": len(bench.base), "n_tokens": bench.n_tokens, "seconds": time.perf_counter() - begun}
    told |= {"trials": [one.told() for one in found]}
    (out / f"{task}.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def race(task: str, out: Path) -> dict[str, Any]:
    """Search and random draws on a table, over paired seeds."""
    told = json.loads((out / f"{task}.json").read_text(encoding="utf-8"))
    session = open_session("embedded", tempfile.mkdtemp(), records=False)
    space = space_of(session.model, fast_methods(session.model, few(session.demos.get(task))))
    known = {one.design.key: one for one in map(DesignTrial.of, told["trials"])}
    values, learned = (np.array([getattr(known[one.key], name) for one in space.designs]) for name in ("objectives", "seen"))
    whole, covered = hypervolume(values, REFERENCE), list[tuple[float, float]]()
    for seed in range(SEEDS):
        pool, seen, begun = Pool(space.features, space.kinds, space.doses, REFERENCE, MOST_DECADES, seed), list[int](), time.perf_counter()
        while len(seen) < RACED:
            seen += pool.ask(seen, learned[seen])[: RACED - len(seen)]
        covered.append((hypervolume(values[seen], REFERENCE), hypervolume(values[pool.draws()[:RACED]], REFERENCE)))
        search, random = (100 * one / whole for one in covered[-1])
        print(f"{task} seed {seed}: search {search:.1f} %, random {random:.1f} %, {time.perf_counter() - begun:.0f} s", flush=True)
    search, random = 100 * np.array(covered).T / whole
    found: dict[str, Any] = {
        "task": task,
        "designs": len(values),
        "measured": int(np.isfinite(values).all(1).sum()),
        "whole, nats × decades": whole,
    }
    found |= {"trials": RACED, "search, %": mean_interval(search).words, "random, %": mean_interval(random).words}
    return found | {"ahead, %": mean_interval(search - random).words, "seeds ahead": int((search > random).sum()), "seeds": SEEDS}


def timed(task: str) -> dict[str, Any]:
    """One search as a person runs it."""
    session = open_session("embedded", tempfile.mkdtemp())
    wall, own = time.perf_counter(), time.process_time()
    found = session.design_search(task, trials=TRIALS)
    told: dict[str, Any] = {
        "task": task,
        "trials": len(found.trials),
        "wall, s": time.perf_counter() - wall,
        "processor, s": time.process_time() - own,
    }
    return told | {"load": os.getloadavg()[0], "sentence": found.sentence}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="*", default=[])
    parser.add_argument("--race", nargs="*", default=[])
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/design"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for task in given.table:
        table(task, given.out)
    for task in given.race:
        print(json.dumps(race(task, given.out), ensure_ascii=False, indent=1), flush=True)
    if given.time:
        print(json.dumps(timed("truthfulness"), ensure_ascii=False, indent=1), flush=True)


if __name__ == "__main__":
    main()
