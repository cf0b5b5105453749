"""Sense finetuning: the affine form against plain autograd through the network, same examples, same optimiser, same draws.

    python -m benchmarks.senses [MODEL] [--examples 100] [--epochs 10] [--autograd-epochs 1]

Prints processor seconds (one thread) of a whole fit (cold: neutral text is read too; warm: it is kept), seconds per epoch both ways, their
ratio, and the largest difference between the two tables, in single and in double precision.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.data.demonstrations import Demonstrations
from workbench.data.sources import read
from workbench.methods import get
from workbench.methods.senses.config import SensesConfig, sense_settings
from workbench.methods.senses.problem import SenseProblem, SenseSettings, posed, trained
from workbench.methods.shared.canonical_examples import (
    CanonicalItem,
    canonical_items,
    canonical_neutral,
    neutral_chunks,
    shipped_neutral,
    training_rows,
)
from workbench.methods.shared.sense_texts import neutral_reading
from workbench.models.backpack.model import BackpackModel, load_backpack
from workbench.numerics.canonical_loop import Draw, descend, seeded_schedule
from workbench.numerics.canonical_losses import loss_slopes
from workbench.resources import EMBEDDED, SETS


def examples(n: int, seed: int) -> Demonstrations:
    """Training examples of the sets of new facts, then of new companies, each with a neutral text that names none of their entities.

    Met in neutral text first, an entity's KL gradient is rounding alone, which Adam blows up to a whole step: no two sums would agree.
    """
    rows = [row for name in ("new-facts", "new-companies") for row in read(SETS / f"{name}.jsonl").demonstrations]
    found = [row for row in rows if "role:train" in row.tags][:n]
    names = {row.tagged("entity") or "" for row in found} | {(row.positive or "").strip() for row in found}
    neutral = [row.prompt for row in shipped_neutral() if row.split == "fit" and not any(name in row.prompt for name in names)]
    Random(seed).shuffle(neutral)
    rows = [replace(row, split="fit", neutral=text, tags=(), id=str(i)) for i, (row, text) in enumerate(zip(found, neutral))]
    return Demonstrations(tuple(rows), f"{len(rows)} new facts")


def edited_logits(model: BackpackModel, ids: Sequence[int], problem: SenseProblem, delta: Tensor) -> Tensor:
    """Run the network with the table added to its senses."""
    batch, network = torch.tensor([ids]), model.network
    # A table of the text's own words only: the released code's dense one over the whole vocabulary would flatter the ratio.
    types, where = batch.unique(return_inverse=True)
    here = torch.isin(problem.selection.token_ids, types)
    rows = torch.searchsorted(types, problem.selection.token_ids[here])
    added = delta.new_zeros(len(types), model.n_senses, delta.shape[1])
    added = added.index_put((rows, problem.selection.sense_ids[here]), delta[here])
    return network.unembedded(network.mix(network.contextualisation(batch), network.senses(batch) + added[where]))[0]


def autograd(
    model: BackpackModel, items: Sequence[CanonicalItem], chunks: Sequence[Sequence[int]], problem: SenseProblem, settings: SenseSettings,
    epochs: int, seed: int,
) -> tuple[Tensor, float]:  # fmt: skip
    """Train the same table by backpropagation through the network; return it and the seconds taken."""
    delta = problem.fresh()
    weights = problem.objective.kl_weights

    def gradients(draws: Sequence[Draw]) -> list[Tensor]:
        table = delta.clone().requires_grad_()
        for example, chunk in draws:
            item, means = items[example], [torch.zeros(()), torch.zeros(())]
            for side, continuation in enumerate((item.good, item.bad)):
                if continuation is not None:
                    logits = edited_logits(model, item.prompt + continuation, problem, table)
                    rows = logits[len(item.prompt) - 1 : -1]
                    means[side] = F.cross_entropy(rows, torch.tensor(continuation))
            good, bad = loss_slopes(item.kind, means[0].item(), means[1].item())
            log_p = edited_logits(model, chunks[chunk], problem, table).log_softmax(-1)
            with torch.no_grad():
                log_p0 = edited_logits(model, chunks[chunk], problem, torch.zeros_like(table)).log_softmax(-1)
            kl = (log_p0.exp() * (log_p0 - log_p)).sum()
            (good * means[0] + bad * means[1] + weights[chunk] * kl).backward()
        assert table.grad is not None
        return [table.grad]

    schedule = seeded_schedule(len(items), len(chunks), torch.Generator().manual_seed(seed))
    start = time.process_time()
    for epoch in descend([delta], gradients, schedule, settings.loop):
        if epoch == epochs:
            break
    return delta, time.process_time() - start


def ours(problem: SenseProblem, settings: SenseSettings, epochs: int, seed: int) -> tuple[Tensor, float]:
    """Train the table in its affine form; return it and the seconds taken."""
    start = time.process_time()
    delta = problem.fresh()
    for epoch, table in trained(problem, settings, seed):
        if epoch == epochs:
            delta = table.clone()
            break
    return delta, time.process_time() - start


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return the processor time of some work, which other processes on the machine do not change much."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="embedded-backpack")
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--autograd-epochs", type=int, default=1)
    args = parser.parse_args()
    folder = Path(EMBEDDED.get(args.model, args.model))
    torch.set_num_threads(1)
    rows, found = examples(args.examples, 0), {}
    for dtype in (torch.float32, torch.float64):
        model = load_backpack(folder, dtype=dtype)
        config = SensesConfig(epochs=args.epochs)
        settings = sense_settings(config, model)
        seconds = [cpu_seconds(get("senses").fit, model, rows, config) for _ in range(3)]
        items = canonical_items(model, training_rows(rows))
        chunks = neutral_chunks(model, canonical_neutral(rows), config.chunk_tokens, config.n_neutral)
        problem = posed(model, items, neutral_reading(model, chunks), settings)
        fast, fast_s = ours(problem, settings, args.autograd_epochs, 0)
        slow, slow_s = autograd(model, items, chunks, problem, settings, args.autograd_epochs, 0)
        found[str(dtype).removeprefix("torch.")] = {
            "fit_cold_s": seconds[0],
            "fit_warm_s": min(seconds[1:]),
            "senses": len(problem.selection),
            "neutral_tokens": sum(map(len, chunks)),
            "epochs_compared": args.autograd_epochs,
            "affine_s": fast_s,
            "autograd_s": slow_s,
            "ratio": slow_s / fast_s,
            "largest_difference": float((fast - slow).abs().max()),
            "largest_entry": float(slow.abs().max()),
        }
    print(json.dumps({"model": args.model, "examples": len(rows), **found}, indent=1))


if __name__ == "__main__":
    main()
