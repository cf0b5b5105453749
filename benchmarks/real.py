"""The methods on a real model: a battery of eight tasks, each method beside its placebo, shuffled sides and a one-line prompt.

    python -m benchmarks.real --model smollm2-135m --out battery.jsonl             # resumes: what the file holds is not done again
    python -m benchmarks.real --quick                                              # one task, the two cheap methods, 3 minutes at most
    python -m benchmarks.real --out battery.jsonl --table                          # the Markdown table of what is there

Every method runs with its defaults (`SETTINGS` where a row says otherwise), fitted on split `fit`, scored on `test`. Score: the margin of
the good answer over the best bad one in nats a token, or minus the absolute log-ratio of a pair that should be even. Effects are paired
differences to the unedited model, averaged over the answers of one prompt, with 95 % intervals over prompts. Seconds are the processor's.
`--rows` caps the test rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.battery import TASKS, Task, task
from workbench.conversations import Conversation
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.placebo import rotated
from workbench.errors import RetouchError
from workbench.evaluate.benefit import references
from workbench.evaluate.controls import shuffled_fit
from workbench.methods import get
from workbench.methods.shared.ground import Ground, ground_of
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.numerics.intervals import Interval, mean_interval
from workbench.score import continuation_scores, text_divergences
from workbench.shapes import Float

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean difference": ("mean_difference", {}),
    "SEA": ("sea", {}),
    "SEA, exclusive": ("sea", {"merge": "exclusive", "base": "positive", "collect": "mean", "keep": 0.9, "center": "grand"}),
    "angular": ("angular", {}),
    "HPR": ("hpr", {}),
    "LoRA": ("lora", {}),
    "ARE": ("are", {}),
    "TaRot": ("tarot", {}),
}
QUICK = ("mean difference", "SEA, exclusive")
N_PLACEBOS = 2
REFIT_WITHIN_S = 120.0
"""A fit that took more processor time is not fitted again on shuffled sides; the table says so."""


def scores(model: LanguageModel, one: Task, rows: Demonstrations, stacks: Sequence[tuple[Edit, ...]]) -> Float[np.ndarray, "lane prompt"]:
    """The score of each lane, averaged over the rows of one prompt."""
    answers = [references(row) for row in rows]
    prompts = [row.prompt for row, (good, bad) in zip(rows, answers) for _ in (*good[:1], *bad)]
    texts = [row.as_answer(text) for row, (good, bad) in zip(rows, answers) for text in (*good[:1], *bad)]
    if not isinstance(rows[0].prompt, Conversation):
        texts = [text for good, bad in answers for text in (*good[:1], *bad)]
    found = continuation_scores(model, prompts, texts, stacks).mean.double().numpy()
    ends = np.cumsum([1 + len(bad) for _, bad in answers])
    margin = np.stack([found[:, end - 1 - len(bad)] - found[:, end - len(bad) : end].max(1) for end, (_, bad) in zip(ends, answers)], 1)
    score = -np.abs(margin) if one.is_balance else margin
    index = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(str, rows.prompts())))}
    owner = np.array([index[str(row.prompt)] for row in rows])
    return np.stack([np.bincount(owner, weights=lane) / np.bincount(owner) for lane in score])


def measured(model: LanguageModel, one: Task, ground: Ground, name: str, base: np.ndarray, progress: Any = None) -> dict[str, Any]:
    """Fit one method on one task and score it beside its controls."""
    method, knobs = SETTINGS[name]
    test, known, start = one.rows.split("test"), get(method), time.process_time()
    told: dict[str, Any] = {"task": one.name, "method": name, "model": model.info.name, "n_rows": len(test), "n_prompts": base.shape[-1]}
    try:
        fitted = known.fit(model, one.rows, known.configure(knobs), seed=0)
    except RetouchError as error:
        return {**told, "refused": str(error)[:300], "seconds": time.process_time() - start}
    seconds = time.process_time() - start
    edit = fitted.edit
    other = shuffled_fit(model, edit, one.rows) if seconds <= REFIT_WITHIN_S else None
    stacks = [(edit,), *((rotated(edit, seed),) for seed in range(N_PLACEBOS)), *([(other,)] if isinstance(other, Edit) else [])]
    found = scores(model, one, test, stacks)
    placebo = found[1 : 1 + N_PLACEBOS].mean(0)
    kl = text_divergences(model, ground.batch, [(edit,)], ground.counted).kl[0]
    told |= {
        "before": float(base.mean()), "effect": _told(found[0] - base), "over_placebo": _told(found[0] - placebo),
        "placebo": float((placebo - base).mean()), "rows_worse": float((found[0] < base).mean()),
        "kl": float(kl.mean()), "kl_tail": float(kl.quantile(0.95)), "seconds": seconds,
        "seconds_measuring": time.process_time() - start - seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }  # fmt: skip
    if isinstance(other, Edit):
        told |= {"shuffled": float((found[-1] - base).mean()), "over_shuffled": _told(found[0] - found[-1])}
    else:
        told["shuffled_not_run"] = other or f"the fit took {seconds:.0f} s"
    return told | {"says": verdict(told)}


def verdict(told: dict[str, Any]) -> str:
    """Beyond chance over the unedited model, the placebo and, where it was run, the fit on shuffled sides; else no effect was found."""
    signs = [told[key]["sign"] for key in ("effect", "over_placebo", "over_shuffled") if key in told]
    if told["effect"]["sign"] < 0:
        return "does harm"
    if all(sign > 0 for sign in signs):
        return "does it" if "over_shuffled" in told else "beats its placebo"
    return "no effect found"


def rival(model: LanguageModel, one: Task, base: np.ndarray) -> dict[str, Any]:
    """The one-line prompt in place of an edit: the system turn of a conversation, or a line before a text."""
    start = time.process_time()
    rows = one.rows.split("test")
    prompted = rows.with_rows(
        replace(row, prompt=chat.with_system(one.rival) if isinstance(chat := row.prompt, Conversation) else f"{one.rival}\n\n{chat}")
        for row in rows
    )
    found = scores(model, one, prompted, [()])[0]
    told = {"task": one.name, "method": "one-line prompt", "model": model.info.name, "n_rows": len(rows), "n_prompts": len(base)}
    told |= {"before": float(base.mean()), "effect": _told(found - base), "rows_worse": float((found < base).mean())}
    says = {-1: "does harm", 0: "no effect found", 1: "does it"}[told["effect"]["sign"]]
    return told | {"seconds": 0.0, "seconds_measuring": time.process_time() - start, "says": says}


def _told(gain: np.ndarray) -> dict[str, Any]:
    found: Interval = mean_interval(gain)
    return {"mean": found.estimate, "low": found.low, "high": found.high, "sign": found.sign, "n": found.n}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """What the file holds, as Markdown."""

    def number(told: dict[str, Any] | None) -> str:
        return "" if told is None else f"{told['mean']:+.2f} [{told['low']:+.2f}, {told['high']:+.2f}]"

    def plain(row: dict[str, Any], key: str, form: str) -> str:
        return format(row[key], form) if key in row else ""

    head = ("task", "method", "n", "before", "effect", "placebo", "shuffled", "worse", "KL", "KL 95 %", "fit, processor s", "what it shows")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        told = row.get("says") or f"refused: {row['refused'][:90]}"
        shuffled = plain(row, "shuffled", "+.2f") or ("–" if "effect" in row else "")
        cells = (
            row["task"], row["method"], str(row["n_prompts"]), plain(row, "before", "+.2f"), number(row.get("effect")),
            plain(row, "placebo", "+.2f"), shuffled, plain(row, "rows_worse", ".2f"), plain(row, "kl", ".3f"), plain(row, "kl_tail", ".2f"),
            plain(row, "seconds", ".0f"), told,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS)
    parser.add_argument("--methods", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rows", type=int, default=120, help="test rows at most, a task")
    parser.add_argument("--minutes", type=float, default=90.0, help="no cell is begun after this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one task, two methods, 32 test rows")
    parser.add_argument("--table", action="store_true", help="only print the table of the file")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out and args.out.exists() else []
    if not args.table:
        torch.set_num_threads(args.threads)
        begun, model = time.perf_counter(), load(args.model)
        names, methods, cap = (("mood",), QUICK, 32) if args.quick else (args.tasks, args.methods, args.rows)
        ground = ground_of(model, Demonstrations((), "none"), 0)
        print(f"{model.info.name}: {ground.source}; at most {cap} test rows a task", flush=True)
        for name in names:
            one, seen = task(name, model, cap), {row["method"] for row in done if row["task"] == name}
            wanted = [method for method in ("one-line prompt", *methods) if method not in seen]
            if not wanted:
                continue
            base = scores(model, one, one.rows.split("test"), [()])[0]
            for method in wanted:
                if time.perf_counter() - begun > 60 * args.minutes:
                    print(f"stopped after {args.minutes:g} minutes; run it again with --out to go on")
                    break
                row = rival(model, one, base) if method == "one-line prompt" else measured(model, one, ground, method, base)
                done.append(row)
                if args.out:
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                print(table([row]).splitlines()[-1], flush=True)
    print("\n" + table(done))


if __name__ == "__main__":
    main()
