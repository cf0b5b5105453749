"""Processor seconds of the lenses on a prompt of name swaps, against their aims, as a table.

    OMP_NUM_THREADS=1 python -m benchmarks.lenses smollm2-135m [--workspace FOLDER] [--only circuit …] [--write]

One process, one thread; the modules are imported before, by small calls. `--write` puts the
table into docs/real-models.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.marks import write_between

PAGE = Path(__file__).parents[1] / "docs" / "real-models.md"
BEGIN, END = "<!-- python -m benchmarks.lenses --write -->", "<!-- end of lenses -->"
CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
PAIR = (CLEAN, CORRUPT, " Mary", " John")
NAMED = (CLEAN, " Mary", " John")
# A lens, what it is called with, and the processor seconds that it should take at most; none: it is measured, not aimed at.
ASKED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], float | None]] = {
    "logit lens": ("logit_lens", (CLEAN,), {}, 2),
    "attribution, by layer": ("direct_attribution", NAMED, {}, 2),
    "attribution, by head": ("direct_attribution", NAMED, {"unit": "head"}, 2),
    "head scores, 8 texts of 40 tokens": ("head_scores", (), {}, 5),
    "every score, on the prompt": ("head_profile", (CLEAN,), {"target": " Mary", "distractor": " John"}, None),
    "name movers": ("name_movers", NAMED, {}, 5),
    "head ablation": ("head_ablation", NAMED, {}, 10),
    "one head": ("head_card", (CLEAN, 20, 0), {"target": " Mary", "distractor": " John"}, None),
    "patching, estimated": ("attribution_patching", PAIR, {}, None),
    "patching, measured": ("activation_patching", PAIR, {}, 30),
    "nodes": ("node_table", NAMED, {}, None),
    "flow": ("flow", (CLEAN,), {}, None),
    "circuit of 100 edges": ("circuit", PAIR, {"n_edges": 100}, None),
    "induction proof": ("induction_proof", (), {}, None),
    "reader": ("reader", (CLEAN, "resid_post@15"), {}, None),
}


def spent(do: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and seconds of a call."""
    busy, began = time.process_time(), time.perf_counter()
    do()
    return time.process_time() - busy, time.perf_counter() - began


def row(session: Any, name: str) -> str:
    """A line of the table."""
    lens, asked, options, aim = ASKED[name]
    busy, seconds = spent(lambda: session.look(lens, *asked, **options))
    told = "" if aim is None else f"{aim:g}" + ("" if busy <= aim else ", MISSED")
    return f"| {name} | {busy:.1f} | {seconds:.1f} | {told} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(ASKED), default=list(ASKED))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    from workbench import open_session

    torch.set_num_threads(1)
    session = open_session(asked.model, asked.workspace)
    warm: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "logit_lens": (("to go",), {}), "direct_attribution": (("to go", " on"), {}), "head_scores": ((), {"n": 1, "length": 3}),
        "reader": (("to go",), {}),
    }  # fmt: skip
    for lens, (given, more) in warm.items():
        session.look(lens, *given, **more)
    n = session.model.tokens(CLEAN).ids.shape[1]
    lines = [f"| lens, {n} tokens | processor s | s | at most |", "|---|---|---|---|"]
    for line in lines:
        sys.stdout.write(line + "\n")
    for name in asked.only:
        lines.append(row(session, name))
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    if asked.write:
        write_between(PAGE, BEGIN, END, "\n".join(lines))


if __name__ == "__main__":
    main()
