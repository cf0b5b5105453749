"""What each setting of a method gains on validation rows and breaks on neutral text, at several doses.

    python -m benchmarks.settings sea --data truthfulness "" "preset=paper" "center=grand gate=hard" --doses 0.5 1 2

A setting is knobs separated by spaces, perhaps with `preset=NAME`; an empty one is the method's default. Every setting is fitted on split
`fit` and measured on `validation` (as choosing does, `methods.shared.validation`); rows of `test` are never read. Neutral text: 24 texts of
split `test` of the shipped neutral set. Prints a Markdown table; `scalars` adds columns from the fit's report.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sources import read
from workbench.errors import RetouchError
from workbench.methods import get
from workbench.methods.shared.validation import measured
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.resources import SETS

N_NEUTRAL = 24


def fitted_rows(
    model: LanguageModel,
    name: str,
    rows: Demonstrations,
    setting: str,
    doses: Sequence[float],
    neutral: Sequence[str],
    scalars: Sequence[str],
) -> list[list[str]]:
    """Fit one setting and return its table rows, one a dose."""
    method, knobs = get(name), dict(part.split("=", 1) for part in setting.split())
    preset = knobs.pop("preset", None)
    shown = setting or "default"
    try:
        fit = method.fit(model, rows, method.configure(knobs, preset), seed=0)
    except RetouchError as error:
        return [[shown, "", str(error), *[""] * (2 + len(scalars))]]
    held = rows.split("validation").having("prompt", "positive", "negative")
    told = [f"{fit.report.scalars[key]:.3g}" for key in scalars]
    return [
        [shown, f"{dose:g}", f"{one.benefit:.2f}", f"{one.wins:.2f}", f"{one.damage:.4f}", *told]
        for dose, one in zip(doses, measured(model, [(fit.edit.scaled(dose),) for dose in doses], held, neutral))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("settings", nargs="*", default=[""])
    parser.add_argument("--data", default="truthfulness")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--doses", type=float, nargs="+", default=[1.0])
    parser.add_argument("--scalars", nargs="*", default=[])
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    model, rows = load(given.model), read(SETS / f"{given.data}.jsonl").demonstrations
    neutral = [row.prompt for row in read(SETS / "neutral.jsonl").demonstrations.split("test")][:N_NEUTRAL]
    held = rows.split("validation").having("prompt", "positive", "negative")
    (base,) = measured(model, [()], held, neutral)
    columns = ["setting", "dose", "P(good)", "good beats bad", "KL, nats a token", *given.scalars]
    print(f"\nmodel {model.info.name}, weights {model.fingerprint.weights}; {len(held)} validation rows of {given.data}\n")
    print("| " + " | ".join(columns) + " |", "|" + "---|" * len(columns), sep="\n")
    print(f"| unedited | | {base.benefit:.2f} | {base.wins:.2f} | 0 |" + " |" * len(given.scalars))
    for setting in given.settings:
        for row in fitted_rows(model, given.method, rows, setting, given.doses, neutral, given.scalars):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
