"""The methods on a real model: a battery of eight tasks, each method beside its placebo, shuffled sides and a one-line prompt.

    python -m benchmarks.real --model smollm2-135m --out battery.jsonl             # resumes: what the file holds is not done again
    python -m benchmarks.real --quick                                              # one task, the two cheap methods, 3 minutes at most
    python -m benchmarks.real --out battery.jsonl --write                          # the table of what is there, into docs, README, cards

Every method runs with its defaults, fitted on split `fit`, scored on `test`. Score: the margin of the good answer over the best bad one in
nats a token, or minus the absolute log-ratio of a pair that should be even. Effects are paired differences to the unedited model, averaged
over the answers of one prompt, with 95 % intervals over prompts. Seconds are the processor's; what fits of a task share is computed
once and paid by the first. Memory is what is held above the model at most. `--rows` caps the test rows. Methods whose fit takes minutes run
on the tasks of their kind (`WORTH`); `--all` runs them everywhere. A cell measured under other settings than today's is measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.battery import TASKS, Task, task
from benchmarks.battery_table import table, write
from benchmarks.evaluator import peak_memory, resident_kb
from workbench import memo
from workbench.conversations import Conversation
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.placebo import rotated
from workbench.errors import RetouchError
from workbench.evaluate.benefit import references
from workbench.evaluate.controls import shuffled_fit
from workbench.evaluate.metrics import ROUNDING
from workbench.knobs import as_json
from workbench.methods import get
from workbench.methods.shared.ground import Ground, ground_of
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.numerics.intervals import Interval, mean_interval
from workbench.score import continuation_scores, text_divergences
from workbench.shapes import Float

PROMPT = "one-line prompt"
METHODS = {
    "mean difference": "mean_difference",
    "SEA": "sea",
    "ARE": "are",
    "HPR": "hpr",
    "LoRA": "lora",
    "TaRot": "tarot",
    "angular": "angular",
}
"""What the table calls a method: its registry name. All run with their defaults."""
WORTH: dict[str, tuple[str, ...]] = {
    "ARE": ("mood", "politeness", "declining"),
    "HPR": ("mood", "politeness", "declining", "popular", "one-sentence"),
    "LoRA": ("new-facts", "declining", "pronouns"),
    "TaRot": ("sentiment", "popular", "pronouns"),
    "angular": ("mood", "politeness"),
}
"""Where a method runs that is not run everywhere: on tasks of the kind that its paper is about."""
QUICK = ("mean difference", "SEA")
N_PLACEBOS = 2
REFIT_WITHIN_S = 900.0
"""A fit that took more processor time is not fitted again on shuffled sides; the table says so."""
MOST_KL = 0.1
"""Beyond this on neutral text and own answers an edit breaks the model, whatever it does."""


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


def measured(
    model: LanguageModel, one: Task, ground: Ground, name: str, base: np.ndarray, told: dict[str, Any], held_kb: int
) -> dict[str, Any]:
    """Fit one method on one task and score it beside its controls."""
    test, known, start, peaks = one.rows.split("test"), get(METHODS[name]), time.process_time(), list[float]()
    with peak_memory(peaks, held_kb):
        try:
            edit = known.fit(model, one.rows, seed=0).edit
        except RetouchError as error:
            return {**told, "refused": str(error)[:300], "seconds": time.process_time() - start}
        seconds = time.process_time() - start
        other = shuffled_fit(model, edit, one.rows) if seconds <= REFIT_WITHIN_S else f"the fit took {seconds:.0f} s"
        stacks = [(edit,), *((rotated(edit, seed),) for seed in range(N_PLACEBOS)), *([(other,)] if isinstance(other, Edit) else [])]
        found = scores(model, one, test, stacks)
        kl = text_divergences(model, ground.batch, [(edit,)], ground.counted).kl[0]
    placebo = found[1 : 1 + N_PLACEBOS].mean(0)
    told |= {
        "before": float(base.mean()), "effect": _told(found[0] - base), "over_placebo": _told(found[0] - placebo),
        "placebo": float((placebo - base).mean()), "rows_worse": float((found[0] < base - ROUNDING).mean()),
        "kl": float(kl.mean()), "kl_tail": float(kl.quantile(0.95)), "seconds": seconds,
        "seconds_measuring": time.process_time() - start - seconds, "gb_above_the_model": peaks[0],
    }  # fmt: skip
    if isinstance(other, Edit):
        told |= {"shuffled": float((found[-1] - base).mean()), "over_shuffled": _told(found[0] - found[-1])}
    elif seconds <= REFIT_WITHIN_S:  # a method that hands nothing back on shuffled sides leaves the model as it is
        told |= {"shuffled": 0.0, "over_shuffled": told["effect"], "shuffled_refused": other}
    else:
        told["shuffled_not_run"] = other
    return told | {"says": verdict(told)}


def verdict(told: dict[str, Any]) -> str:
    """Beyond chance over the unedited model, the placebo and, where it was run, the fit on shuffled sides; and what it breaks."""
    signs = [told[key]["sign"] for key in ("over_placebo", "over_shuffled") if key in told]
    breaks = f", and breaks the model (KL {told['kl']:.2f})" if told["kl"] > MOST_KL else ""
    if told["effect"]["sign"] < 0:
        return f"does harm{breaks}"
    if told["effect"]["sign"] == 0:
        return f"no effect found{breaks}"
    if any(sign <= 0 for sign in signs):
        return f"no effect found beyond noise of that size{breaks}"
    return f"{'does it' if len(signs) == 2 else 'beats its placebo'}{breaks}"


def rival(model: LanguageModel, one: Task, base: np.ndarray, told: dict[str, Any]) -> dict[str, Any]:
    """The one-line prompt in place of an edit: the system turn of a conversation, or a line before a text."""
    start = time.process_time()
    rows = one.rows.split("test")
    prompted = rows.with_rows(
        replace(row, prompt=chat.with_system(one.rival) if isinstance(chat := row.prompt, Conversation) else f"{one.rival}\n\n{chat}")
        for row in rows
    )
    found = scores(model, one, prompted, [()])[0]
    told |= {"before": float(base.mean()), "effect": _told(found - base), "rows_worse": float((found < base - ROUNDING).mean())}
    says = {-1: "does harm", 0: "no effect found", 1: "does it"}[told["effect"]["sign"]]
    return told | {"seconds": 0.0, "seconds_measuring": time.process_time() - start, "says": says}


def _told(gain: np.ndarray) -> dict[str, Any]:
    found: Interval = mean_interval(gain)
    return {"mean": found.estimate, "low": found.low, "high": found.high, "sign": found.sign, "n": found.n}


def settings(name: str) -> dict[str, Any]:
    """Every knob's value that a row of the table stands for."""
    return {} if name == PROMPT else dict(as_json(get(METHODS[name]).configure()))


def is_current(row: dict[str, Any]) -> bool:
    """Whether a row was measured with today's settings of its method."""
    return row["method"] in (PROMPT, *METHODS) and row.get("settings") == json.loads(json.dumps(settings(row["method"])))


def cells(tasks: Sequence[str], methods: Sequence[str], *, everywhere: bool = False) -> Iterator[tuple[str, str]]:
    """What is measured, in its order: task by task, the prompt first."""
    for name in tasks:
        yield name, PROMPT
        yield from ((name, method) for method in methods if everywhere or name in WORTH.get(method, TASKS))


def run(
    model: LanguageModel, wanted: Sequence[tuple[str, str]], cap: int, minutes: float, out: Path | None, done: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Measure what `done` does not hold yet, a line of the file a cell; no cell is begun after some minutes."""
    begun, ground = time.perf_counter(), ground_of(model, Demonstrations((), "none"), 0)
    weights, found, held_kb = model.fingerprint.weights, list(done), resident_kb("VmRSS")
    seen = {(row["task"], row["method"]) for row in done if is_current(row) and (row["cap"], row["weights"]) == (cap, weights)}
    print(f"{model.info.name}: {ground.source}; at most {cap} test rows a task", flush=True)
    left = [cell for cell in wanted if cell not in seen]
    for name, here in groupby(left, key=lambda cell: cell[0]):
        with memo.remembering():
            one, base = task(name, model, cap), np.zeros(0)
            for _, method in here:
                if time.perf_counter() - begun > 60 * minutes:
                    print(f"stopped after {minutes:g} minutes; run it again with --out to go on")
                    return found
                base = base if len(base) else scores(model, one, one.rows.split("test"), [()])[0]
                told: dict[str, Any] = {"task": name, "method": method, "model": Path(model.info.name).name, "weights": weights, "cap": cap}
                told |= {"settings": settings(method), "n_rows": len(one.rows.split("test")), "n_prompts": len(base)}
                row = rival(model, one, base, told) if method == PROMPT else measured(model, one, ground, method, base, told, held_kb)
                found.append(row)
                if out:
                    with out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                print(table([row]).splitlines()[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rows", type=int, default=100, help="test rows at most, a task")
    parser.add_argument("--minutes", type=float, default=90.0, help="no cell is begun after this")
    parser.add_argument("--all", action="store_true", help="every method on every task: hours")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one task, two methods, 32 test rows")
    parser.add_argument("--write", action="store_true", help="measure nothing; write what the file holds into docs, README and the cards")
    args = parser.parse_args()
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out and args.out.exists() else []
    wanted = list(cells(("mood",), QUICK) if args.quick else cells(args.tasks, args.methods, everywhere=args.all))
    if args.write:
        kept = {(row["task"], row["method"]): row for row in done if is_current(row)}
        write([kept[cell] for cell in wanted if cell in kept], [cell for cell in wanted if cell not in kept], args.rows, METHODS)
        return
    found = run(load(args.model), wanted, 32 if args.quick else args.rows, args.minutes, args.out, done)
    print("\n" + table(found))


if __name__ == "__main__":
    main()
