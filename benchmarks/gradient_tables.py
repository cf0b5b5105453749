"""Can gradients along one fit stand in for refits without each example? LoRA on canonical examples.

    python -m benchmarks.gradient_tables --data new-facts --pairs 20 --rows 40

Truth is a fit without each example, once in the fit's order (all that was drawn held) and once in an order drawn anew. Printed: Spearman's
rank correlation with both of each gradient table, over the mean of the test rows and over single rows, and that of random orders (95 % of
1,000 lie below it). A table is Σ over checkpoints of learning rate × ∂loss of an example · ∂score of a row, in all that is trained: at the
end alone or after every epoch, rows at each checkpoint or at the end, divided by the root of Adam's second moment, or of unit length.
Ref: TracIn, arXiv 2002.08484; docs/methods/shared.md §9.8.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.influence import rank
from workbench.data.demonstrations import Demonstrations
from workbench.evaluate.influence import influence
from workbench.evaluate.slopes import Asked, asked, margins
from workbench.methods import get
from workbench.methods.canonical.lora import AdapterTrainee
from workbench.methods.canonical.training import LoopObjective, loop_settings, neutral_halves, side_means
from workbench.methods.shared.canonical_examples import canonical_items, training_rows
from workbench.models.base import LanguageModel
from workbench.numerics.canonical_loop import descend, seeded_schedule
from workbench.numerics.canonical_losses import loss_slopes
from workbench.opening import open_session
from workbench.progress import silent

LR = 3e-3
KNOBS: dict[str, Any] = {"lr": LR, "group": 5, "chunk_tokens": 32, "n_neutral": 16}
Flat = torch.Tensor


def row_scores(model: LanguageModel, trainee: AdapterTrainee, these: Asked, worst: Sequence[int]) -> Iterator[torch.Tensor]:
    """Each row's margin under the weights in training, to be differentiated."""
    for row, true, false, at in zip(these.rows, these.true, these.false, worst):
        texts = [true, *([false[at]] if false else [])]
        batch = model.tokens([row.prompt] * len(texts), texts)
        log_p = trainee.logits(batch)[:, :-1].float().log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        counted = batch.mask[:, 1:] & (batch.positions[:, 1:] >= batch.n_prompt[:, None])
        total = torch.where(counted, log_p, 0.0).sum(1)
        yield total[0] - total[1] if false else total[0]


def losses(model: LanguageModel, trainee: AdapterTrainee, items: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Each example's training loss, to be differentiated."""
    for item in items:
        means = iter(side_means(trainee.logits, [item], model.device))
        sides = [None if side is None else next(means) for side in (item.good, item.bad)]
        slopes = loss_slopes(item.kind, *(0.0 if mean is None else mean.item() for mean in sides))
        yield torch.stack([slope * mean for slope, mean in zip(slopes, sides) if mean is not None]).sum()


def gradients(values: Iterator[torch.Tensor], weights: Sequence[Flat]) -> Flat:
    """One flat gradient a value."""
    found: list[Flat] = []
    with torch.enable_grad():
        for value in values:
            parts = torch.autograd.grad(value, list(weights), allow_unused=True, materialize_grads=True)
            found.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(found)


def tables(model: LanguageModel, rows: Demonstrations, config: Any, these: Asked, worst: Sequence[int]) -> dict[str, np.ndarray]:
    """Every table, by what it is, from one fit."""
    items, (held, _, _) = canonical_items(model, training_rows(rows), config.loss), neutral_halves(model, rows, config)
    trainee = AdapterTrainee(model, config, 0)
    objective, settings, weights = (
        LoopObjective(model, trainee, items, held, config),
        loop_settings(config, LR, len(items)),
        trainee.parameters,
    )
    second, steps = torch.zeros(sum(p.numel() for p in weights)), 0

    def watched(draws: Any) -> list[Flat]:
        nonlocal second, steps
        found, steps = objective.gradients(draws), steps + 1
        flat = torch.cat([part.reshape(-1) for part in found]) / len(draws)
        second = settings.betas[1] * second + (1 - settings.betas[1]) * flat.square()
        return found

    g, r, roots = list[Flat](), list[Flat](), list[Flat]()
    schedule = seeded_schedule(len(items), len(held), torch.Generator().manual_seed(0))
    for _ in descend(weights, watched, schedule, settings):
        g.append(gradients(losses(model, trainee, items), weights))
        r.append(gradients(row_scores(model, trainee, these, worst), weights))
        roots.append((second / (1 - settings.betas[1] ** max(1, steps))).sqrt() + settings.eps)
    roots[0] = roots[1]
    rates, end = [settings.lr_in(epoch) for epoch in range(1, settings.epochs + 1)], settings.epochs

    def over(term: Callable[[int], Flat]) -> np.ndarray:
        return -sum(rate * term(at) for at, rate in enumerate(rates)).numpy()  # type: ignore[union-attr]

    unit = torch.nn.functional.normalize
    return {
        "at the end alone": -(g[end] @ r[end].T).numpy(),
        "at the end alone, by Adam's second moment": -(g[end] / roots[end] @ r[end].T).numpy(),
        "over epochs": over(lambda at: g[at] @ r[at].T),
        "over epochs, rows at the end": over(lambda at: g[at] @ r[end].T),
        "over epochs, by Adam's second moment": over(lambda at: g[at] / roots[at] @ r[at].T),
        "over epochs, by Adam's second moment, rows at the end": over(lambda at: g[at] / roots[at] @ r[end].T),
        "over epochs, cosines": over(lambda at: unit(g[at]) @ unit(r[at]).T),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--data", default="new-facts")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=40, help="test rows at most")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    session = open_session(given.model, records=False)
    whole, model = session.demos.resolve(given.data), session.model
    rows = whole.with_rows([*training_rows(whole).first(given.pairs), *training_rows(whole, "test").first(given.rows)])
    method = get("lora")
    config = replace(method.configure(KNOBS), epochs=given.epochs)
    edit = method.fit(model, rows, config).edit
    told = influence(model, rows, edit, split="test", n_refits=given.pairs)
    these = asked(rows.split("test"), rows)
    _, worst = margins(model, these, [(edit,)], silent())
    anew = [method.fit(model, rows.where(lambda row, one=one: row is not one), config).edit for one in told.demonstrations]
    redrawn = told.after - np.stack([margins(model, these, [(one,)], silent())[0][0] for one in anew])
    draw, mean = np.random.default_rng(0), told.matrix.mean(1)
    mixed = float(np.quantile([abs(rank(draw.permutation(mean), mean)) for _ in range(1000)], 0.95))
    print(f"\n{model.info.name}, {given.data}: {len(mean)} examples, {len(these.rows)} test rows; random orders {mixed:.2f}\n")
    print("| table | its order: mean | rows | an order drawn anew: mean | rows |", "|---" * 5 + "|", sep="\n")
    found = {"refits in its order": told.matrix, **tables(model, rows, config, these, worst[0])}
    for name, matrix in found.items():
        cells = (
            [rank(matrix.mean(1), true.mean(1)) for true in (told.matrix, redrawn)],
            [rank(matrix.ravel(), true.ravel()) for true in (told.matrix, redrawn)],
        )
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for pair in zip(*cells) for value in pair) + " |", flush=True)


if __name__ == "__main__":
    main()
