"""ARE on the embedded world, against mean difference, direction ablation and ARE on shuffled labels, with side effects.

    python -m benchmarks.are --out runs/are-benchmark [--only careful refusal-up …]

Every method chooses on validation rows, among settings with a KL of at most 0.05 nats per token on neutral text of split fit: ARE its
preset and dose, mean difference layer and dose, direction ablation the layer (and the dose, where the direction is added). The choice goes
by the wanted answers and by the rows that should stay as they are, as much by the one as by the other. Every number below is on test rows
and on neutral text of split test. Shares carry Wilson's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import read
from workbench.edits.base import Edit
from workbench.errors import RetouchError
from workbench.evaluate.controls import shuffled
from workbench.evaluate.metrics import Metric, share_metric
from workbench.evaluate.side_effects import neutral_losses, side_effects
from workbench.methods import get
from workbench.methods.directions.mean_difference import AdditionEdit
from workbench.methods.registry import Fitted, header
from workbench.methods.shared.concept import concept_of
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.record import gather
from workbench.resources import SETS
from workbench.score import continuation_scores
from workbench.sites import Site

DAMAGE = 0.05


@dataclass(frozen=True)
class Task:
    """A concept to move, and the rows that show whether it moved; `kept` are rows that should stay as they are."""

    name: str
    data: str
    direction: str
    shown: str
    kept: tuple[str, ...] = ()


TASKS = (
    Task("careful", "careful", "toward", "role:evaluation"),
    Task("refusal-up", "refusal", "toward", "request:mild", ("request:kind",)),
    Task("refusal-down", "refusal", "away", "request:rude", ("request:kind",)),
    Task("mood-happy", "mood", "toward", "role:evaluation"),
    Task("mood-sad", "mood", "away", "role:evaluation"),
)
PRESETS = ("ours", "retained", "paper")


def wanted(model: LanguageModel, rows: Sequence[Demonstration], lanes: Sequence[Sequence[Edit]], direction: str) -> Metric:
    """Share of rows whose wanted answer is the likelier."""
    prompts = [row.prompt for row in rows]
    good, bad = (
        continuation_scores(model, prompts, [str(getattr(row, side)) for row in rows], lanes).total for side in ("positive", "negative")
    )
    gap = (good - bad) * (1 if direction == "toward" else -1)
    return share_metric("wanted", "Wanted answer preferred", (gap > 0).numpy(), "higher")


def judged(model: LanguageModel, rows: Demonstrations, lanes: Sequence[Sequence[Edit]], task: Task) -> dict[str, Metric]:
    """The wanted answers of the rows to change, and of those that should stay as they are."""
    directions = {task.shown: task.direction, **dict.fromkeys(task.kept, "toward")}
    return {tag: wanted(model, rows.tagged(tag).having("positive", "negative").rows, lanes, way) for tag, way in directions.items()}


def best_of(
    model: LanguageModel, rows: Demonstrations, task: Task, neutral: Sequence[str], tried: Sequence[tuple[Edit, dict[str, Any]]]
) -> tuple[Edit, dict[str, Any]]:
    """The edit with the most wanted answers on validation rows, among those within the damage allowed; of equals the least damaging."""
    lanes: list[tuple[Edit, ...]] = [(), *((edit,) for edit, _ in tried)]
    kl, _, weights = neutral_losses(model, neutral[:24], lanes)
    damage = (kl * weights).sum(-1) / weights.sum()
    scores = judged(model, rows.split("validation"), lanes, task)
    found = [
        (sum(metric.values[i].estimate for metric in scores.values()), -float(damage[i]), i)
        for i in range(1, len(lanes))
        if damage[i] <= DAMAGE
    ]
    if not found:
        raise RetouchError(f"None of {len(tried)} settings keeps within KL ≤ {DAMAGE}.", "Allow more damage.")
    _, _, i = max(found)
    edit, told = tried[i - 1]
    measured = {f"validation {tag}": metric.values[i].estimate for tag, metric in scores.items()}
    return edit, {**told, **measured, "validation_kl": float(damage[i]), "settings": len(tried)}


def steered(model: LanguageModel, rows: Demonstrations, task: Task, neutral: Sequence[str]) -> tuple[Edit, dict[str, Any]]:
    """Mean difference of the two sets of prompts at some layer and dose."""
    concept = concept_of(model, rows)
    batch, is_target = concept.train.tokens(model), concept.train.is_target
    sign = 1.0 if task.direction == "toward" else -1.0
    tried: list[tuple[Edit, dict[str, Any]]] = []
    for layer in range(model.info.n_layers):
        x = gather(model, batch, [Site("resid_post", layer)])[Site("resid_post", layer)].double()
        vector = sign * (x[is_target].mean(0) - x[~is_target].mean(0)).float()
        made = header("mean_difference", model, rows, get("mean_difference").config(), 0, {"layers": [layer], "where": "all"})
        whole = AdditionEdit(made, {layer: vector})
        tried += [(whole.scaled(dose), {"layer": layer, "dose": dose}) for dose in (0.5, 1.0, 2.0, 4.0)]
    return best_of(model, rows, task, neutral, tried)


def directed(model: LanguageModel, rows: Demonstrations, task: Task, neutral: Sequence[str]) -> tuple[Edit, dict[str, Any]]:
    """Direction ablation (to take a concept away) or addition (to bring it) at some layer, and dose where it is added."""
    how = get("refusal_direction")
    mode, doses = ("add", (0.5, 1.0, 2.0, 4.0)) if task.direction == "toward" else ("ablate", (1.0,))
    tried: list[tuple[Edit, dict[str, Any]]] = []
    for layer in range(1, model.info.n_layers):
        edit = how.fit(model, rows, how.configure({"mode": mode, "layer": layer, "positions": 1})).edit
        tried += [(edit.scaled(dose), {"mode": mode, "layer": layer, "dose": dose}) for dose in doses]
    return best_of(model, rows, task, neutral, tried)


def adversarial(
    model: LanguageModel, rows: Demonstrations, task: Task, preset: str | None, **values: Any
) -> tuple[Fitted, dict[str, float]]:
    """ARE with a preset, and what it cost."""
    how = get("are")
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = how.fit(model, rows, how.configure({"direction": task.direction, "sample_every": 0, **values}, preset))
    return fitted, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def run(model: LanguageModel, task: Task, neutral: Sequence[str], neutral_test: Sequence[str]) -> dict[str, Any]:
    """One task: fit every competitor, and score all of them on the test rows in one batch of lanes."""
    rows = read(SETS / f"{task.data}.jsonl").demonstrations
    general = tuple(Demonstration(text, tags=("role:general",), id=f"neutral-{i}") for i, text in enumerate(neutral))
    rows = rows.with_rows((*rows.rows, *general))
    fits = {preset: adversarial(model, rows, task, preset) for preset in PRESETS}
    tried = [(fits[preset][0].edit.scaled(dose), {"preset": preset, "dose": dose}) for preset in PRESETS for dose in (0.5, 1.0, 2.0)]
    edit, told = best_of(model, rows, task, neutral, tried)
    preset = told["preset"]
    fitted, cost = fits[preset]
    kept = int(fitted.report.scalars["kept_round"])
    lanes: dict[str, tuple[Edit, ...]] = {"base": (), "are": (edit,)}
    notes: dict[str, Any] = {"are": {**told, **cost, **fitted.report.scalars}}
    placebo, placebo_cost = adversarial(
        model, shuffled(rows, 1), task, preset, min_accuracy=0.0, max_rounds=kept, keep="last", stop_low=0.69
    )
    lanes["are, labels shuffled"] = (placebo.edit.scaled(told["dose"]),)
    notes["are, labels shuffled"] = {**placebo_cost, "accuracy_base": placebo.report.scalars["accuracy_base"]}
    for name, made in (("mean difference", steered), ("direction", directed)):
        try:
            edit, notes[name] = made(model, rows, task, neutral)
            lanes[name] = (edit,)
        except RetouchError as error:
            notes[name] = {"refused": str(error)}
    names, stacks = list(lanes), list(lanes.values())
    test = rows.split("test")
    scores = judged(model, test, stacks, task)
    costs = side_effects(model, neutral_test, stacks, n_generations=24)
    found = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"method": name}
        for tag, metric in scores.items():
            row[tag] = asdict(metric.values[i])
        row |= {item.name: asdict(item.values[i]) for item in costs.metrics}
        found.append(row)
    return {"task": asdict(task), "methods": found, "notes": notes, "rounds": [dict(row) for row in fitted.report.tables["rounds"]]}


def retention(model: LanguageModel, neutral: Sequence[str], weights: Sequence[float] = (0.0, 1.0, 10.0, 100.0)) -> list[dict[str, Any]]:
    """Concept against damage for several weights of the retention term, round by round."""
    rows = read(SETS / "careful.jsonl").demonstrations
    general = tuple(Demonstration(text, tags=("role:general",), id=f"neutral-{i}") for i, text in enumerate(neutral))
    rows = rows.with_rows((*rows.rows, *general))
    found: list[dict[str, Any]] = []
    for beta in weights:
        fitted, _ = adversarial(model, rows, TASKS[0], "ours", retention_kl=beta, max_rounds=4, keep="last", stop_low=0.69)
        names = ("round", "benefit", "probability", "kl")
        found += [{"beta": beta, **{name: row[name] for name in names}} for row in fitted.report.tables["rounds"]]
    return found


def timing(model: LanguageModel) -> dict[str, float]:
    """Wall and processor time of the default fit with 100 prompts a side."""
    rows = read(SETS / "careful.jsonl").demonstrations
    sides = [row for row in rows if row.label]
    made = [replace(row, split="fit") if i < 200 or row.split == "fit" else replace(row, split="validation") for i, row in enumerate(sides)]
    whole = rows.with_rows((*made, *(row for row in rows.split("validation") if not row.label)))
    fitted, cost = adversarial(model, whole, TASKS[0], "ours", n_prompts=200)
    return {**cost, **{name: fitted.report.scalars[name] for name in ("n_fit", "rounds", "kept_round", "memory_mb")}}


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    lines = ["# ARE on the embedded world", "", f"Model: {results['model']}. Shares on test rows with 95 % intervals.", ""]
    for item in results.get("tasks", ()):
        tags = [item["task"]["shown"], *item["task"]["kept"]]
        lines += [f"## {item['task']['name']} ({item['task']['direction']})", ""]
        columns = ["method", *(f"wanted, {tag}" for tag in tags), "KL", "perplexity ratio", "repetition-4"]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in item["methods"]:
            cells = [row["method"], *(_interval(row[tag]) for tag in tags)]
            cells += [f"{row[name]['estimate']:.4f}" for name in ("kl_nats", "perplexity_ratio", "repetition_4")]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if "timing" in results:
        lines += ["Timing, 100 prompts a side: " + ", ".join(f"{name} {value:.4g}" for name, value in results["timing"].items()), ""]
    return "\n".join(lines)


def _interval(value: dict[str, float]) -> str:
    return f"{value['estimate']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def main() -> None:
    """Run the chosen parts and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--out", type=Path, default=Path("runs/are-benchmark"))
    parser.add_argument("--only", nargs="*", default=[task.name for task in TASKS] + ["timing", "retention"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.model)
    neutral = [row.prompt for row in read(SETS / "neutral.jsonl").demonstrations if row.split == "fit"][:64]
    neutral_test = [row.prompt for row in read(SETS / "neutral.jsonl").demonstrations if row.split == "test"][:64]
    given.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"model": asdict(model.fingerprint), "tasks": []}
    for task in TASKS:
        if task.name in given.only:
            results["tasks"].append(run(model, task, neutral, neutral_test))
            _write(given.out, results)
    for name, part in (("timing", lambda: timing(model)), ("retention", lambda: retention(model, neutral))):
        if name in given.only:
            results[name] = part()
            _write(given.out, results)
    print(markdown(results))


def _write(folder: Path, results: dict[str, Any]) -> None:
    (folder / "are.json").write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")
    (folder / "are.md").write_text(markdown(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
