"""TaRot on the embedded world: which searches change answers on prompts that nobody showed them.

    python -m benchmarks.tarot [--seeds 10] [--tasks sentiment,agreement] [--only NAMES] [--minutes 60] [--out FILE.json]
    python -m benchmarks.tarot --speed

Every cell is one fit: 124 objective calls on at most 40 training prompts of `fit`, finalists chosen on `validation`, `test` scored once
at the end; zero-shot prompts, probability among all tokens. Seeds change rows, design and search. Intervals are 95 % bootstrap intervals
over seeds. Seeds are the outer loop, so that a run stopped by --minutes is a smaller run of the same benchmark; --out continues one.
`--speed` prints seconds for 124 calls and the ratio of candidates as lanes to one by one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import paired
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import read
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.methods.shared.validation import neutral_kl
from workbench.methods.tarot.config import TarotConfig, angle_space
from workbench.methods.tarot.objective import AngleObjective, scores
from workbench.methods.tarot.task import chosen_rows, label_of, labels_of, last_logits, task_of
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.numerics.intervals import mean_interval
from workbench.resources import SETS

SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"optimizer": "random", "depth": "first"},
    "turbo": {"optimizer": "turbo", "depth": "first"},
    "es": {"optimizer": "es", "step": 0.3, "depth": "first"},
    "turbo on 4 relevant heads": {"optimizer": "turbo", "top_heads": 4},
    "random on 4 relevant heads": {"optimizer": "random", "top_heads": 4},
    "embedding": {"optimizer": "embedding", "depth": "first"},
    "turbo on all layers": {"optimizer": "turbo", "depth": "all"},
    "turbo on all layers, 20 prompts": {"optimizer": "turbo", "depth": "all", "n_train": 20},
    "turbo on all layers, bound pi/4": {"optimizer": "turbo", "depth": "all", "bound": math.pi / 4},
    "random on all layers": {"optimizer": "random", "depth": "all"},
    "bo": {"optimizer": "bo", "depth": "first"},
}
COMMON = {"shots": "zero"}
BASES = {"base, zero-shot": "zero", "base, 2 shots": "two", "base, 4 shots": "four"}
NEUTRAL, LORA = 24, "LoRA, same rows"
Cell = dict[str, Any]


def tested(model: LanguageModel, rows: Demonstrations, edits: tuple[Edit, ...], config: TarotConfig) -> dict[str, float]:
    """Score the rows of split `test`: accuracy of the arg-max over all tokens, and mean probability of the label."""
    pool = rows.split("fit").rows[:20]
    task = task_of(model, config, rows.split("test").rows, pool, labels_of(rows), 0)
    with applied(model, *edits):
        logits = torch.cat([last_logits(model, task.prompts.rows(slice(at, at + 50))) for at in range(0, len(task), 50)])
    found = {name: scores(task, logits[None], name, config.answers)[0] for name in ("accuracy", "prob")}
    return {"test_accuracy": float(found["accuracy"].mean()), "test_p": float(found["prob"].mean()), "n_test": len(task)}


def searched(model: LanguageModel, rows: Demonstrations, knobs: dict[str, Any], seed: int, neutral: list[str]) -> Cell:
    """Run one fit and score it."""
    config = get("tarot").configure(COMMON | knobs)
    start, cpu = time.perf_counter(), time.process_time()
    fit = get("tarot").fit(model, rows, config, seed=seed)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    kept = ("angles", "n_train", "best_objective", "first_objective", "validation_accuracy_before", "validation_accuracy_after")
    more = ("surrogate_rank_correlation", "surrogate_uninformative_calls", "trend_rank_correlation")
    told = {name: fit.report.scalars[name] for name in (*kept, *more) if name in fit.report.scalars}
    kl = float(neutral_kl(model, [(fit.edit,)], neutral)[0])
    return {**tested(model, rows, (fit.edit,), config), **told, "neutral_kl": kl, "wall_s": wall, "cpu_s": cpu}


def lora(model: LanguageModel, rows: Demonstrations, seed: int, neutral: list[str]) -> Cell:
    """Fit LoRA on the same training rows as the searches of this seed, as good canonical examples."""
    config = get("tarot").configure(COMMON)
    train = chosen_rows(model, rows, config, seed).train
    shown = [Demonstration(r.prompt, positive=label_of(r), loss="good", tags=("role:train",), id=r.id) for r in train]
    kept = [Demonstration(text, tags=("role:regularisation",), id=f"n{i}") for i, text in enumerate(read_neutral()[NEUTRAL : NEUTRAL + 20])]
    start = time.perf_counter()
    edit = get("lora").fit(model, Demonstrations((*shown, *kept), rows.name), seed=seed).edit
    wall = time.perf_counter() - start
    kl = float(neutral_kl(model, [(edit,)], neutral)[0])
    return {**tested(model, rows, (edit,), config), "neutral_kl": kl, "wall_s": wall}


def shipped(name: str) -> Demonstrations:
    """One of the demonstration sets that ship."""
    return read(SETS / f"{name}.jsonl").demonstrations


def read_neutral() -> list[str]:
    """Return the prompts of the shipped neutral texts."""
    return [row.prompt for row in shipped("neutral")]


def run(model: LanguageModel, tasks: list[str], names: list[str], seeds: int, minutes: float, out: Path | None) -> list[Cell]:
    """Fill the table cell by cell; cells that `out` already holds for this model are kept."""
    cells: list[Cell] = []
    weights = model.fingerprint.weights
    if out is not None and out.exists():
        cells = [cell for cell in json.loads(out.read_text()) if cell["model"] == weights]
    done = {(cell["task"], cell["name"], cell["seed"]) for cell in cells}
    end = time.monotonic() + 60 * minutes
    data, neutral = {name: shipped(name) for name in tasks}, read_neutral()[:NEUTRAL]

    def put(task: str, name: str, seed: int, cell: Cell) -> None:
        cells.append({"task": task, "name": name, "seed": seed, "model": weights, **cell})
        if out is not None:
            out.write_text(json.dumps(cells, indent=1))
        print(task, seed, name, f"{cell['test_accuracy']:.3f} {cell['test_p']:.3f}", flush=True)

    for task, rows in data.items():
        for name, shots in BASES.items():
            if name in names and (task, name, 0) not in done:
                config = get("tarot").configure({"shots": shots})
                put(task, name, 0, {**tested(model, rows, (), config), "neutral_kl": 0.0})
    for seed in range(seeds):
        for task, rows in data.items():
            for name in names:
                if name in BASES or (task, name, seed) in done:
                    continue
                if time.monotonic() > end:
                    return cells
                made = searched(model, rows, SEARCHES[name], seed, neutral) if name in SEARCHES else lora(model, rows, seed, neutral)
                put(task, name, seed, made)
    return cells


def table(cells: list[Cell]) -> str:
    """Return the results as Markdown: means over seeds with intervals, and the paired change against random search."""
    lines = ["| task | search | seeds | test accuracy | test mean p | accuracy minus random | neutral KL (nats/token) | CPU s |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for task in dict.fromkeys(cell["task"] for cell in cells):
        mine = [cell for cell in cells if cell["task"] == task]
        drawn = {cell["seed"]: cell["test_accuracy"] for cell in mine if cell["name"] == "random"}
        for name in dict.fromkeys(cell["name"] for cell in mine):
            some = [cell for cell in mine if cell["name"] == name]
            change = [cell["test_accuracy"] - drawn[cell["seed"]] for cell in some if cell["seed"] in drawn and name not in BASES]
            cpu = np.mean([cell.get("cpu_s", cell.get("wall_s", math.nan)) for cell in some])
            columns = [spread([cell[key] for cell in some]) for key in ("test_accuracy", "test_p")]
            last = [spread(change, signed=True) if change and name != "random" else "", spread([c["neutral_kl"] for c in some])]
            seconds = "" if math.isnan(cpu) else f"{cpu:.1f}"
            lines.append("| " + " | ".join([task, name, str(len(some)), *columns, *last, seconds]) + " |")
    return "\n".join(lines)


def spread(values: list[float], *, signed: bool = False) -> str:
    """Return a mean with its interval in words; one value alone has none."""
    form = "+.3f" if signed else ".3f"
    if len(values) < 2:
        return f"{values[0]:{form}}"
    interval = asdict(mean_interval(np.array(values)))
    return f"{interval['estimate']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def speed(model: LanguageModel) -> dict[str, Any]:
    """Return seconds of a default fit, and the wall-time ratio of 4 candidates as lanes to 4 one by one."""
    rows, config = shipped("sentiment"), get("tarot").configure(COMMON)
    chosen = chosen_rows(model, rows, config, 0)
    task = task_of(model, config, chosen.train, chosen.pool, labels_of(rows), 0)
    found: dict[str, Any] = {"n_train": len(task)}
    for layers in ((0, 1), (4, 5)):
        knobs = get("tarot").configure({**COMMON, "layers": layers})
        objective = AngleObjective(model, angle_space(knobs, model, None), knobs, task)
        points = torch.rand(4, objective.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ratio = paired(lambda f=objective, p=points: f(p), lambda f=objective, p=points: [f(x[None]) for x in p], 9)
        found[f"lanes / one by one, layers {layers}"] = ratio
    upper = get("tarot").configure({**COMMON, "layers": (4, 5)})
    with_prefix, without = (
        AngleObjective(model, angle_space(upper, model, None), upper, task, keeps_prefix=keeps) for keeps in (True, False)
    )
    points = torch.rand(4, with_prefix.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found["prefix / whole network, layers (4, 5)"] = paired(lambda: with_prefix(points), lambda: without(points), 9)
    for shots in ("zero", "mix"):
        start, cpu = time.perf_counter(), time.process_time()
        get("tarot").fit(model, rows, get("tarot").configure({"shots": shots}), seed=0)
        found[f"default fit, shots {shots}"] = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--tasks", default="sentiment,agreement")
    parser.add_argument("--only", default=";".join((*BASES, *SEARCHES, LORA)), help="names of rows of the table, split by semicolons")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load(args.model)
    if args.speed:
        print(json.dumps(speed(model), indent=1))
        return
    cells = run(model, args.tasks.split(","), args.only.split(";"), args.seeds, args.minutes, args.out)
    print(f"\nmodel {model.info.name}, weights {model.fingerprint.weights}\n\n{table(cells)}")


if __name__ == "__main__":
    main()
