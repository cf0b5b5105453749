"""Does it help, and what does it break? SEA, Φ-SEA, HPR and mean difference on held-out rows of the embedded world.

    python -m benchmarks.truth --data truthfulness --out runs/truth

Each method is fitted on split `fit` and tuned on `validation` (knobs and dose, `methods.choice`); rows of `test` are scored once, beside
a placebo of equal size and rank (`edits.placebo.rotated`) and a fit on shuffled sides. Neutral text is of split `test`, facts too.
Writes `<out>/<data>.json` and `<out>/<data>.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.edits.base import Edit
from workbench.errors import RetouchError
from workbench.evaluate.controls import shuffled_fit
from workbench.evaluate.evaluation import Evaluation, evaluation
from workbench.methods.choice import Choice, chosen
from workbench.opening import open_session
from workbench.session import Session
from workbench.workspace.measured import capability_of

LAYERS, KEEP, CENTER = ((3, 4), (3,), (3, 4, 5)), (0.95, 0.99, 0.995), ("demonstrations", "grand")
# Method, preset, what to try (none: the method's own grid).
ENTRIES: dict[str, tuple[str, str | None, dict[str, Sequence[Any]] | None]] = {
    "mean difference": ("mean_difference", None, None),
    "mean difference, gate": ("mean_difference", None, {"gate": ("hard",), "layers": ((2,), (3,), (4,)), "strength": (2.0, 4.0)}),
    "SEA": ("sea", None, {"layers": LAYERS, "keep": KEEP, "center": CENTER}),
    "SEA, gate": ("sea", None, {"layers": LAYERS, "keep": KEEP, "center": CENTER, "gate": ("hard",)}),
    "SEA, paper": ("sea", "paper", {"keep": (0.998,)}),
    "Φ-SEA, elu": ("sea", "phi-elu", {"layers": ((3,), (4,)), "keep": (0.99,)}),
    "HPR, protected": ("hpr", None, {"neutral_weight": (1.0,)}),
    "HPR": ("hpr", None, {"neutral_weight": (0.0,), "layers": ((1,), (2,), (1, 2), (3,)), "gate": ("none", "hard")}),
}
DOSES = (0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
METRICS = ("mc1", "mc2", "p_answer", "imbalance_nats", "kl_nats", "perplexity_ratio", "facts_mc1")


def measured(session: Session, data: str, names: Sequence[str], limit: float, seed: int) -> dict[str, Any]:
    """Fit, tune and score every entry; return what the files hold."""
    model, rows = session.model, session.demos.resolve(data)
    held_out = [row.prompt for row in session.demos.resolve("neutral").split("test")][:64]
    stacks: dict[str, tuple[Edit, ...]] = {}
    facts: dict[str, Any] = {}
    for name in names:
        method, preset, over = ENTRIES[name]
        started = time.perf_counter()
        try:
            choice: Choice = chosen(model, method, rows, preset=preset, over=over, doses=DOSES, max_damage=limit, seed=seed)
        except RetouchError as error:
            facts[name] = {"error": str(error)}
            continue
        edit = choice.edit
        facts[name] = {"seconds": time.perf_counter() - started, "chosen": choice.best.row(), "candidates": len(choice.candidates)}
        stacks[name] = (edit,)
        other = shuffled_fit(model, edit, rows, seed=seed)
        if isinstance(other, str):
            facts[name]["shuffled"] = other
        else:
            stacks[f"{name}, shuffled sides"] = (other,)
        print(name, facts[name], flush=True)
    known = capability_of(session.demos, rows, model)
    found = evaluation(model, rows, list(stacks.values()), neutral=held_out, capability=known, n_placebos=3, n_generations=0)
    told = {"data": data, "limit": limit, "seed": seed, "model": model.fingerprint.weights}
    return {**told, "methods": facts, "rows": _rows(found, list(stacks))}


def _rows(found: Evaluation, names: Sequence[str]) -> list[dict[str, Any]]:
    labels = ["unedited", *names, *(f"{name}, placebo" for name in names)]
    rows: list[dict[str, Any]] = []
    for lane, label in enumerate(labels):
        row: dict[str, Any] = {"edit": label}
        for metric in found.all_metrics:
            if metric.name in METRICS:
                value, change = metric.values[lane], metric.changes[lane]
                row[metric.name] = {"value": value.estimate, "low": value.low, "high": value.high, "n": metric.n}
                row[metric.name] |= {"change": change and [change.estimate, change.low, change.high]}
        rows.append(row)
    return rows


def table(found: dict[str, Any]) -> str:
    """The rows as a Markdown table; brackets hold 95 % intervals."""
    names = [name for name in METRICS if any(name in row for row in found["rows"])]
    lines = [f"| edit | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row in sorted(found["rows"], key=lambda item: item["edit"]):
        cells = [f"{row[n]['value']:.3f} [{row[n]['low']:.3f}, {row[n]['high']:.3f}]" for n in names]
        lines.append(f"| {row['edit']} | {' | '.join(cells)} |")
    counts = {name: row[name]["n"] for row in found["rows"][:1] for name in names}
    return "\n".join([*lines, "", f"n: {counts}. Damage limit while tuning: KL {found['limit']} nats a token."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="truthfulness")
    parser.add_argument("--out", type=Path, default=Path("runs/truth"))
    parser.add_argument("--limit", type=float, default=0.02, help="KL on neutral text that tuning allows, nats a token")
    parser.add_argument("--only", nargs="*", default=list(ENTRIES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(open_session("embedded"), given.data, given.only, given.limit, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{given.data}.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.out / f"{given.data}.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
