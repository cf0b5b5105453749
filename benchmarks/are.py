"""ARE on the embedded world, against mean difference, direction ablation and ARE on shuffled labels, with side effects.

    python -m benchmarks.are --out runs/are-benchmark [--only careful refusal-up …]

Each method chooses on validation rows; every number below is on test rows. Shares carry Wilson's 95 % interval. Mean difference
takes the layer and dose with the best validation benefit among those with a KL of at most 0.05 nats per token on neutral text.
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
from workbench.methods.are_concept import concept_of
from workbench.methods.mean_difference import AdditionEdit
from workbench.methods.registry import Fitted, header
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.record import gather
from workbench.score import continuation_scores
from workbench.sites import Site

DATA = Path(__file__).resolve().parents[1] / "assets" / "data"
DAMAGE = 0.05


@dataclass(frozen=True)
class Task:
    """A concept to move, and the rows that show whether it moved; `kept` are rows that should stay as they are."""

    name: str
    data: str
    direction: str
    shown: str
    kept: tuple[str, ...] = ()
    preset: str | None = None


TASKS = (
    Task("careful", "careful", "toward", "role:evaluation"),
    Task("refusal-up", "refusal", "toward", "request:mild", ("request:kind",), "later-blocks"),
    Task("refusal-down", "refusal", "away", "request:rude", ("request:kind",), "later-blocks"),
    Task("mood-happy", "mood", "toward", "role:evaluation"),
    Task("mood-sad", "mood", "away", "role:evaluation"),
)


def wanted(model: LanguageModel, rows: Sequence[Demonstration], lanes: Sequence[Sequence[Edit]], direction: str) -> Metric:
    """Share of rows whose wanted answer is the likelier."""
    prompts = [row.prompt for row in rows]
    good, bad = (
        continuation_scores(model, prompts, [str(getattr(row, side)) for row in rows], lanes).total for side in ("positive", "negative")
    )
    gap = (good - bad) * (1 if direction == "toward" else -1)
    return share_metric("wanted", "Wanted answer preferred", (gap > 0).numpy(), "higher")


def steered(model: LanguageModel, rows: Demonstrations, task: Task, neutral: Sequence[str]) -> tuple[Edit, dict[str, Any]]:
    """Mean difference of the two sets of prompts, with layer and dose chosen on validation within the damage allowed."""
    concept = concept_of(model, rows)
    batch, is_target = concept.train.tokens(model), concept.train.is_target
    judged = rows.split("validation").where(lambda row: task.shown in row.tags and bool(row.positive)).rows
    sign = 1.0 if task.direction == "toward" else -1.0
    found: list[tuple[float, float, Edit, dict[str, Any]]] = []
    for layer in range(model.info.n_layers):
        x = gather(model, batch, [Site("resid_post", layer)])[Site("resid_post", layer)].double()
        vector = sign * (x[is_target].mean(0) - x[~is_target].mean(0)).float()
        made = header("mean_difference", model, rows, get("mean_difference").config(), 0, {"layers": [layer], "where": "all"})
        whole = AdditionEdit(made, {layer: vector})
        lanes: list[tuple[Edit, ...]] = [(), *((whole.scaled(dose),) for dose in (0.5, 1.0, 2.0, 4.0))]
        kl, _, weights = neutral_losses(model, neutral[:24], lanes)
        for i, value in enumerate(wanted(model, judged, lanes, task.direction).values):
            damage = float((kl[i] * weights).sum() / weights.sum())
            if i and damage <= DAMAGE:
                told = {"layer": layer, "dose": lanes[i][0].dose, "validation": value.estimate}
                found.append((value.estimate, -damage, lanes[i][0], told))
    best = max(found, key=lambda item: item[:2])
    return best[2], best[3]


def directed(model: LanguageModel, rows: Demonstrations, task: Task) -> tuple[Edit | None, dict[str, Any]]:
    """Direction ablation (to take a concept away) or addition (to bring it), by the method's own choice of layer."""
    how = get("refusal_direction")
    source, values = rows, {"mode": "add" if task.direction == "toward" else "ablate"}
    if task.data != "refusal":  # answers begin in many ways there, so nothing but a fixed layer can be chosen
        values |= {"layer": 3, "positions": 1}
    if task.name == "mood-sad":
        values["mode"] = "ablate"
    try:
        fitted = how.fit(model, source, how.configure(values))
    except RetouchError as error:
        return None, {"refused": str(error)}
    return fitted.edit, dict(fitted.report.scalars)


def adversarial(model: LanguageModel, rows: Demonstrations, task: Task, **values: Any) -> tuple[Fitted, dict[str, float]]:
    """ARE with the defaults, and what it cost."""
    how = get("are")
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = how.fit(model, rows, how.configure({"direction": task.direction, "sample_every": 0, **values}, task.preset))
    return fitted, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def run(model: LanguageModel, task: Task, neutral: Sequence[str], neutral_test: Sequence[str]) -> dict[str, Any]:
    """One task: fit every competitor, and score all of them on the test rows in one batch of lanes."""
    rows = read(DATA / f"{task.data}.jsonl").demonstrations
    general = tuple(Demonstration(text, tags=("role:general",), id=f"neutral-{i}") for i, text in enumerate(neutral))
    rows = rows.with_rows((*rows.rows, *general))
    fitted, cost = adversarial(model, rows, task)
    kept = int(fitted.report.scalars["kept_round"])
    lanes: dict[str, tuple[Edit, ...]] = {"base": (), "are": (fitted.edit,)}
    notes: dict[str, Any] = {"are": {**cost, **fitted.report.scalars}}
    placebo, placebo_cost = adversarial(model, shuffled(rows, 1), task, min_accuracy=0.0, max_rounds=kept, keep="last", stop_low=0.69)
    lanes["are, labels shuffled"] = (placebo.edit,)
    notes["are, labels shuffled"] = {**placebo_cost, "accuracy_base": placebo.report.scalars["accuracy_base"]}
    edit, notes["mean difference"] = steered(model, rows, task, neutral)
    lanes["mean difference"] = (edit,)
    direction, notes["direction"] = directed(model, rows, task)
    if direction is not None:
        lanes["direction"] = (direction,)
    names, stacks = list(lanes), list(lanes.values())
    test = rows.split("test")
    scores = {
        tag: wanted(model, test.tagged(tag).having("positive", "negative").rows, stacks, task.direction) for tag in (task.shown, *task.kept)
    }
    costs = side_effects(model, neutral_test, stacks, n_generations=24)
    found = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"method": name}
        for tag, metric in scores.items():
            row[tag] = asdict(metric.values[i])
        row |= {item.name: asdict(item.values[i]) for item in costs.metrics}
        found.append(row)
    return {"task": asdict(task), "methods": found, "notes": notes, "rounds": [dict(row) for row in fitted.report.tables["rounds"]]}


def retention(model: LanguageModel, neutral: Sequence[str], weights: Sequence[float] = (0.0, 1.0, 10.0)) -> list[dict[str, Any]]:
    """Concept against damage for several weights of the retention term, round by round."""
    rows = read(DATA / "careful.jsonl").demonstrations
    general = tuple(Demonstration(text, tags=("role:general",), id=f"neutral-{i}") for i, text in enumerate(neutral))
    rows = rows.with_rows((*rows.rows, *general))
    found: list[dict[str, Any]] = []
    for beta in weights:
        fitted, _ = adversarial(model, rows, TASKS[0], retention_kl=beta, max_rounds=4, keep="last", stop_low=0.69)
        names = ("round", "benefit", "probability", "kl")
        found += [{"beta": beta, **{name: row[name] for name in names}} for row in fitted.report.tables["rounds"]]
    return found


def timing(model: LanguageModel) -> dict[str, float]:
    """Wall and processor time of the default fit with 100 prompts a side."""
    rows = read(DATA / "careful.jsonl").demonstrations
    sides = [row for row in rows if row.label]
    made = [replace(row, split="fit") if i < 200 or row.split == "fit" else replace(row, split="validation") for i, row in enumerate(sides)]
    whole = rows.with_rows((*made, *(row for row in rows.split("validation") if not row.label)))
    fitted, cost = adversarial(model, whole, TASKS[0], n_prompts=200)
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
    neutral = [row.prompt for row in read(DATA / "neutral.jsonl").demonstrations if row.split == "fit"][:64]
    neutral_test = [row.prompt for row in read(DATA / "neutral.jsonl").demonstrations if row.split == "test"][:64]
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
