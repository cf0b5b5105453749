"""The canonical-examples protocol on the embedded Backpack: success at equal degradation, for several tasks and methods.

    python -m benchmarks.protocol [--tasks new-facts pronouns …] [--methods senses lora finetuning] [--draws 5] [--seeds 5] --out FOLDER

Chooses configurations on the validation pair, fits anew per seed on the test pair, and writes a JSON file a cell (task × method) and one
Markdown table of all cells in the folder; a cell that is there already is not run again. The method `ensemble` lends the sense edits to
another model (--big), in that model's own ball.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from workbench.data.sources import read
from workbench.evaluate.protocol.ensemble import ensemble_protocol
from workbench.evaluate.protocol.scores import protocol
from workbench.models.catalog import load
from workbench.resources import SETS

TASKS = ("new-facts", "pronouns", "stereotypes", "agreement-canonical")
METHODS = ("senses", "lora", "finetuning")
COLUMNS = ("task", "method", "epsilon", "seeds", "n", "success before", "success after", "change", "standard error", "general loss rise",
           "hard negatives rise", "rest rise")  # fmt: skip


def shown(value: object) -> str:
    """A table's cell."""
    if isinstance(value, float):
        return f"{value:.0e}" if 0 < abs(value) < 1e-3 and f"{value:.0e}".startswith("1e") else f"{value:.3g}"
    return str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(shown(row.get(name, "")) for name in COLUMNS) + " |" for row in rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="embedded-backpack")
    parser.add_argument("--big", default="embedded", help="the model that method `ensemble` lends sense edits to")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-general", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    torch.set_num_threads(1)
    for method in args.methods:
        for task in args.tasks:
            file = args.out / f"{task}.{method}.json"
            if file.exists():
                continue
            start, cpu = time.perf_counter(), time.process_time()
            rows = read(SETS / f"{task}.jsonl").demonstrations
            options = {"draws": args.draws, "seeds": range(args.seeds), "n_general": args.n_general}
            if method == "ensemble":
                found = ensemble_protocol(load(args.big), model, rows, **options)[0]
            else:
                found = protocol(model, rows, method, **options)
            told = {
                "model": args.model, "fingerprint": str(model.fingerprint), "set": task, "method": method, "draws": args.draws,
                "rows": [{**item.row(), "set": task} for item in found],
                "wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu,
                "records": [asdict(record) for item in found for record in item.records],
            }  # fmt: skip
            file.write_text(json.dumps(told, indent=1, default=str))
            print(f"{task} {method}: {told['wall_s']:.0f} s, processor {told['cpu_s']:.0f} s\n{table(told['rows'])}", flush=True)
    cells = [json.loads(file.read_text()) for file in sorted(args.out.glob("*.json"))]
    (args.out / "table.md").write_text(table([row for cell in cells for row in cell["rows"]]))


if __name__ == "__main__":
    main()
