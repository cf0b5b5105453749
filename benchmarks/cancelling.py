"""How long whatever runs still runs after its cancel, on a real model: every fit, a choice, searches, measurements, lenses. The aim is 1 s.

    python -m benchmarks.cancelling [--model smollm2-135m] [--after 2 7] [--only fit:hpr locate]

Each is begun as a job, left alone for so many seconds, then cancelled. What is over before that is said to be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from workbench.methods import get, names
from workbench.models.catalog import load
from workbench.progress import Progress
from workbench.sampling import Sampling
from workbench.session import Session
from workbench.workspace.jobs import Jobs

AIM_S = 1.0
SETS = {"contrast": "truthfulness", "label": "sentiment", "concept": "mood", "canonical": "new-facts"}
PROMPT, CORRUPT, WORDS = "The capital of France is the city of", "The capital of Italy is the city of", (" Paris", " Rome")
Doing = Callable[[Session, Progress], Any]


def _fit(name: str, on: Session, tell: Progress) -> Any:
    knobs = {"layer": on.model.info.n_layers // 2, "positions": 1} if name == "refusal_direction" else {}
    return on.fit(name, SETS[get(name).needs.task], knobs, progress=tell)


def _look(lens: str, on: Session, tell: Progress, *given: Any, **options: Any) -> Any:
    return on.look(lens, *given, **options, progress=tell)


def doings(session: Session) -> dict[str, Doing]:
    """What is cancelled, by name; one mean difference is fitted first for what measures an edit."""
    edit = session.fit("mean_difference", session.demos("truthfulness").first(24)).edit.id
    rows = "truthfulness"
    fits: dict[str, Doing] = {
        f"fit:{name}": partial(_fit, name) for name in names() if not get(name).needs.senses or session.model.info.has_senses
    }
    looks: dict[str, Doing] = {
        "head_scores": lambda on, tell: _look("head_scores", on, tell, n=64),
        "head_ablation": lambda on, tell: _look("head_ablation", on, tell, PROMPT, *WORDS),
        "activation_patching": lambda on, tell: _look("activation_patching", on, tell, PROMPT, CORRUPT, *WORDS),
        "circuit": lambda on, tell: _look("circuit", on, tell, PROMPT, CORRUPT, *WORDS),
        "locate": lambda on, tell: _look("locate", on, tell, on.demos(rows)),
        "demonstration_geometry": lambda on, tell: _look("demonstration_geometry", on, tell, on.demos(rows)),
    }
    return {
        **fits,
        "choose:mean_difference": lambda on, tell: on.choose("mean_difference", rows, progress=tell),
        "verdict": lambda on, tell: on.evaluate(edit, rows, seconds=60.0, n_placebos=2, n_generations=0, progress=tell),
        "evaluate": lambda on, tell: on.evaluate(edit, rows, progress=tell),
        "sweep": lambda on, tell: on.sweep(edit, rows, progress=tell),
        "coherent_dose": lambda on, tell: on.coherent_dose(edit, progress=tell),
        "generate": lambda on, tell: on.generate([PROMPT] * 8, [(), edit], Sampling(max_new_tokens=200), progress=tell),
        **looks,
    }


def stopped(session: Session, doing: Doing, after_s: float) -> tuple[float | None, str]:
    """Seconds from the cancel to the end, and what was being done; None where it was over before."""
    job = Jobs().submit(partial(doing, session), title="work", model="one")
    job.wait(after_s)
    shot = job.snapshot()
    if shot.is_over:
        return None, f"over before: {shot.error or shot.doing}"
    began = time.monotonic()
    job.cancel()
    job.wait()
    return time.monotonic() - began, f"{shot.doing} ({shot.share:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--after", type=float, nargs="+", default=[2.0, 7.0], help="seconds after which it is cancelled")
    parser.add_argument("--only", nargs="+", default=None)
    asked = parser.parse_args()
    longest = 0.0
    with tempfile.TemporaryDirectory() as room:
        session = Session(load(asked.model), room, records=False)
        found = doings(session)
        print("| what | cancelled after, s | stopped after, s | while |", "|---|---|---|---|", sep="\n")
        for name in asked.only or found:
            for after_s in asked.after:
                took, doing = stopped(session, found[name], after_s)
                longest = max(longest, took or 0.0)
                print(f"| {name} | {after_s:g} | {'–' if took is None else f'{took:.2f}'} | {doing} |", flush=True)
    print(f"\nThe longest took {longest:.2f} s; at most {AIM_S:g} s is the aim.")
    sys.exit(longest > AIM_S)


if __name__ == "__main__":
    main()
