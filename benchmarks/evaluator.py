"""The evaluator against its own floor: what several lanes cost beside one plain batch after another, in one run.

    python -m benchmarks.evaluator [--model smollm2-135m] [--data FILE.csv] [--questions 20] [--layer 20] [--lanes 5] [--rounds 3]
    python -m benchmarks.evaluator --sweep                                             # eight doses of one edit

The floor counts multiply-adds: tokens × blocks that have to run, and logits at the tokens that are scored. Plain is one stack after
another, every answer with its prompt, all blocks, logits at every scored position. `share` is the part of the possible saving that is
reached: measured ratio / ratio of the floors, in processor time, which other work on the machine moves least. It exceeds 1 where plain
batches pay for padding too. Differences are told in float32 and, for a few questions, against float64, where rounding vanishes and an
error would not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.decode import edits
from workbench import forks
from workbench.data.sources import read
from workbench.edits.base import Edit
from workbench.evaluate.benefit import references
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.models.tokens import TokenBatch
from workbench.progress import silent
from workbench.score import batch_scores, plain_scores
from workbench.shapes import Float, Tensor

Stacks = list[tuple[Edit, ...]]


def rows_of(model: LanguageModel, file: Path, n: int) -> TokenBatch:
    """The first `n` questions of a file, each with every true and false answer."""
    prompts: list[str] = []
    answers: list[str] = []
    for row in list(read(file).demonstrations)[:n]:
        for side in references(row):
            prompts += [row.prompt] * len(side)
            answers += side
    return model.tokens(prompts, answers)


def floors(model: LanguageModel, batch: TokenBatch, stacks: Stacks) -> tuple[float, float]:
    """Multiply-adds of plain batches and of the least that has to run, for these stacks."""
    info = model.info
    block = sum(p.numel() for p in model.blocks[0].parameters())
    head = info.d_model * info.d_vocab
    rows = [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask)]
    ends = [len(row) - n for row, n in zip(rows, batch.n_prompt.tolist())]
    prompts = {row[: len(row) - end]: None for row, end in zip(rows, ends)}
    whole = sum(len(row) for row in rows)
    shared = sum(map(len, prompts)) + sum(end - 1 for end in ends)
    scored, at_once = sum(ends), len(prompts) + sum(end - 1 for end in ends)
    plain = len(stacks) * (whole * info.n_layers * block + scored * head)
    least = 0.0
    for stack in [(), *(stack for stack in stacks if stack)]:
        fork = 0 if not stack else forks.fork_of(model, stack)
        behind = info.n_layers if fork is None else info.n_layers - fork
        least += shared * behind * block + at_once * head
    return plain, least


@contextmanager
def peak_memory(found: list[float], held_kb: int | None = None) -> Generator[None]:
    """Add how far resident memory rises within, in GB, above what is held now or was (Linux: the high-water mark is reset first)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kb("VmRSS") if held_kb is None else held_kb
    yield
    found.append((resident_kb("VmHWM") - before) / 1e6)


def resident_kb(field: str) -> int:
    """A field of the process's status, in kB."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))


@dataclass
class Found:
    """What the rounds gave: processor-time ratios, seconds of both, memory, and the largest differences."""

    ratios: list[float] = field(default_factory=list[float])
    seconds: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    peaks: list[float] = field(default_factory=list[float])
    difference: float = 0.0


def plainly(model: LanguageModel, batch: TokenBatch, stacks: Stacks, rows: int = 32) -> Float[Tensor, "lane row token"]:
    """One stack after another, every answer with its prompt."""
    width = int((batch.lengths - batch.n_prompt).max())
    return torch.cat([plain_scores(model, batch, [stack], rows, width, None, silent()) for stack in stacks])


def measured(model: LanguageModel, batch: TokenBatch, stacks: Stacks, rounds: int, *, sweep: bool) -> Found:
    """Run both ways in turn, so that drift of the machine hits both."""
    found = Found()
    for _ in range(rounds):
        if sweep:
            batch_scores(model, batch, [stacks[0]])
        else:
            forks.forget(model)
        with peak_memory(found.peaks):
            used, start = time.process_time(), time.perf_counter()
            ours = batch_scores(model, batch, stacks).per_token
            middle, half = time.perf_counter(), time.process_time()
        plain, again = time.perf_counter(), time.process_time()
        theirs = plainly(model, batch, stacks)
        found.seconds.append((middle - start, time.perf_counter() - plain))
        found.ratios.append((time.process_time() - again) / (half - used))
        found.difference = max(found.difference, float((ours - theirs).abs().max()))
    return found


def exactness(name: str, model: LanguageModel, batch: TokenBatch, stacks: Stacks) -> dict[str, float]:
    """Both ways in float32 against both in float64, largest differences of a token in nats: rounding, or another number?"""
    exact = load(name, dtype="float64")

    def twin(edit: Edit) -> Edit:
        return replace(edit, header=replace(edit.header, model=exact.fingerprint))

    doubled = [tuple(map(twin, stack)) for stack in stacks]
    ours, theirs, other = batch_scores(model, batch, stacks).per_token, plainly(model, batch, stacks), plainly(model, batch, stacks, 7)
    truth, truth_plainly = batch_scores(exact, batch, doubled).per_token, plainly(exact, batch, doubled)

    def largest(x: Tensor, y: Tensor) -> float:
        return float((x.double() - y.double()).abs().max())

    return {
        "in_float64_ours_from_plain": largest(truth, truth_plainly), "float32_ours_from_float64": largest(ours, truth),
        "float32_plain_from_float64": largest(theirs, truth), "float32_plain_in_batches_of_7_from_float64": largest(other, truth),
        "float32_plain_in_batches_of_7_from_plain": largest(other, theirs),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--exact", type=int, default=4, help="questions that are scored in float64 too; 0: none")
    parser.add_argument("--layer", type=int, default=20)
    parser.add_argument("--lanes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweep", action="store_true", help="the unedited pass is kept from an earlier evaluation, as in a sweep of doses")
    args = parser.parse_args()
    model = load(args.model)
    batch = rows_of(model, args.data, args.questions)
    made = edits(model, args.lanes if args.sweep else args.lanes - 1, args.layer)
    stacks: Stacks = [*([] if args.sweep else [()]), *((edit,) for edit in made)]
    plain_floor, least = floors(model, batch, stacks)
    found = measured(model, batch, stacks, args.rounds, sweep=args.sweep)
    reached = statistics.median(found.ratios)
    told = {
        "model": Path(model.info.name).name, "threads": torch.get_num_threads(),
        "answers": len(batch), "lanes": len(stacks), "layer": args.layer,
        "floor_ratio": plain_floor / least, "measured_ratio": reached, "share": reached / (plain_floor / least),
        "ratios": found.ratios, "seconds_ours": [round(a, 2) for a, _ in found.seconds],
        "seconds_plain": [round(b, 2) for _, b in found.seconds],
        "largest_difference_nats": found.difference, "peak_gb_above_the_model": max(found.peaks),
    }  # fmt: skip
    if args.exact:
        told |= exactness(args.model, model, rows_of(model, args.data, args.exact), stacks[:2])
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
