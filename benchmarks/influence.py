"""Does the influence of each demonstration agree with what refits without it show?

    python -m benchmarks.influence --model embedded --data truthfulness
    python -m benchmarks.influence --model smollm2-135m --workspace DIR --data truthfulness --pairs 12 --rows 24

For each method that knows its edit without each row in closed form, one fit on `--pairs` demonstrations, then a true fit without each of
them, its knobs named (layers, numbers of directions, strength), and the mean score of the test rows under each. Printed: Spearman's rank
correlation of the demonstrations' influences with what the refits show, over the mean and over single rows, and that of the same influences
in random order (the control: 95 % of 1,000 orders lie below it). Times are of the influences and of the refits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from workbench.data.demonstrations import Demonstrations
from workbench.evaluate.influence import influence
from workbench.evaluate.slopes import asked, margins
from workbench.methods import get
from workbench.methods.registry import ordered
from workbench.models.base import LanguageModel
from workbench.opening import open_session
from workbench.progress import silent

KNOBS: dict[str, dict[str, Any]] = {"sea": {"k_plus": 8, "k_minus": 2}, "mean_difference": {}}
LARGE: dict[str, dict[str, Any]] = {"mean_difference": {"strength": 1.0}}
"""Beside those, in models of 30 million parameters and more, whose fits would look for a layer and a strength each time."""


def agreement(model: LanguageModel, rows: Demonstrations, name: str, values: dict[str, Any]) -> dict[str, float]:
    """Fit, ask for influences on the test rows, and fit again without each demonstration."""
    method = get(name)
    config = method.configure(values)
    edit = method.fit(model, rows, config).edit
    begun = time.perf_counter()
    told = influence(model, rows, edit, split="test")
    asked_s, begun = time.perf_counter() - begun, time.perf_counter()
    these, refits = asked(rows.split("test"), rows), []
    for one in told.demonstrations:
        fitted = method.fit(model, rows.where(lambda row, one=one: row is not one), config).edit
        refits.append(margins(model, these, [(fitted,)], silent())[0][0])
    true = told.after - np.stack(refits)
    draw = np.random.default_rng(0)
    mine, theirs = told.matrix.mean(1), true.mean(1)
    mixed = [abs(rank(draw.permutation(mine), theirs)) for _ in range(1000)]
    return {
        "mean": rank(mine, theirs), "rows": rank(told.matrix.ravel(), true.ravel()), "control": float(np.quantile(mixed, 0.95)),
        "asked_s": asked_s, "refits_s": time.perf_counter() - begun,
    }  # fmt: skip


def rank(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--data", default="truthfulness")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100, help="test rows at most")
    parser.add_argument("--layer", type=int, help="the layer that is edited; else the method's own")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    session = open_session(given.model, given.workspace, records=False)
    whole = session.demos.resolve(given.data)
    rows = whole.with_rows([*whole.split("fit").first(given.pairs), *whole.split("test").first(given.rows)])
    print(f"\n{session.model.info.name}, {given.data}: {len(rows.split('fit'))} demonstrations, {len(rows.split('test'))} test rows\n")
    print("| method | mean score | single rows | influences in random order | influences, s | refits, s |", "|---" * 6 + "|", sep="\n")
    for method in ordered():
        if method.without is None:
            continue
        values = KNOBS.get(method.name, {}) | (LARGE.get(method.name, {}) if session.model.info.n_parameters >= 30e6 else {})
        values |= {} if given.layer is None else {"layers": (given.layer,)}
        found = agreement(session.model, rows, method.name, values)
        cells = [f"{found[name]:.3f}" for name in ("mean", "rows", "control")] + [f"{found[name]:.1f}" for name in ("asked_s", "refits_s")]
        print("| " + " | ".join([method.name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
