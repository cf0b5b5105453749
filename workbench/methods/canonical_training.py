"""The canonical loop for weights: what LoRA and full finetuning share, by backpropagation through the network.

Ref: specs/canonical.md §4. The loop itself is `numerics.canonical_loop`, the same that trains senses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, Header
from workbench.knobs import knob
from workbench.methods.canonical import (
    CanonicalItem,
    LossChoice,
    canonical_items,
    checks,
    neutral_chunks,
    regularisation_texts,
    training_rows,
)
from workbench.methods.registry import Curve, FitReport, Fitted, Notice
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.canonical_loop import Draw, LoopSettings, descend, seeded_schedule
from workbench.numerics.canonical_losses import loss_slopes, loss_value, succeeds
from workbench.progress import Progress
from workbench.shapes import Float, Logits, Tensor

RELEASED_CHUNK = 500
# log p0 of neutral chunks is kept when all of it fits into this many numbers (200 MB in float32).
KEPT_NUMBERS = 50_000_000


@dataclass(frozen=True)
class LoopConfig:
    """Knobs that LoRA and full finetuning share."""

    lr: float | None = knob(
        None, label="Learning rate", help="Step size of Adam; none chooses by method and size.", bounds=(1e-9, 1.0), main=True
    )
    epochs: int = knob(10, label="Epochs", help="Passes over the examples.", bounds=(1, 100), main=True)
    kl_weight: float = knob(
        0.3,
        label="Hold on neutral text",
        help="Weight of KL(before‖after) on neutral text; more keeps the rest as it was.",
        bounds=(0.0, 10.0),
        symbol="w",
        main=True,
    )
    loss: LossChoice = knob("auto", label="Loss", help="Of every row; auto takes each row's own, or what its sides suggest.")
    ball: Literal["none", "1e-3", "1e-4", "1e-5"] = knob(
        "none",
        label="Degradation ball",
        symbol="ε",
        help="Keep the last epoch in which the loss on neutral text has risen by at most this share; none keeps the last epoch.",
    )
    n_neutral: int = knob(32, label="Neutral chunks", help="How many chunks of neutral text hold the model.", bounds=(0, 3000))
    chunk_tokens: int = knob(128, label="Chunk length", help="Tokens of a neutral chunk at most.", bounds=(2, 512), unit="tokens")
    group: int = knob(5, label="Examples per step", help="Examples whose mean gradient makes a step.", bounds=(1, 100))
    compat: Literal["ours", "official"] = knob(
        "ours", label="Compatibility", help="official repeats the released code, its quirks included."
    )


class Trainee(Protocol):
    """Weights in training: its parameters, a forward that carries them, and a frozen copy as an edit."""

    @property
    def parameters(self) -> Sequence[Tensor]: ...

    def logits(self, batch: TokenBatch) -> Logits: ...

    def edit(self, header: Header) -> Edit: ...


class Objective:
    """Σ over draws of L(example) + w·KL(chunk), by autograd."""

    def __init__(
        self,
        model: LanguageModel,
        trainee: Trainee,
        items: Sequence[CanonicalItem],
        chunks: Sequence[tuple[int, ...]],
        kl_weight: float,
    ) -> None:
        self._model, self._trainee, self._items, self._chunks, self._kl_weight = model, trainee, items, chunks, kl_weight
        self._log_p0: dict[int, Tensor] = {}

    def gradients(self, draws: Sequence[Draw]) -> list[Tensor]:
        """Return the gradient by each parameter."""
        with torch.enable_grad():
            total = self._examples([self._items[example] for example, _ in draws])
            if self._chunks and self._kl_weight:
                total = total + self._kl([chunk for _, chunk in draws])
            return list(torch.autograd.grad(total, list(self._trainee.parameters), allow_unused=True, materialize_grads=True))

    def _examples(self, items: Sequence[CanonicalItem]) -> Tensor:
        means = iter(side_means(self._trainee.logits, items, self._model.device))
        total = torch.zeros((), device=self._model.device)
        for item in items:
            good, bad = (None if side is None else next(means) for side in (item.good, item.bad))
            slopes = loss_slopes(item.kind, *(0.0 if mean is None else mean.item() for mean in (good, bad)))
            total = total + sum(slope * mean for slope, mean in zip(slopes, (good, bad)) if mean is not None)
        return total

    def _kl(self, chunks: Sequence[int]) -> Tensor:
        batch = TokenBatch.of([self._chunks[i] for i in chunks], None, self._model.device)
        log_p = _log_softmax(self._trainee.logits(batch))
        total = torch.zeros((), device=self._model.device)
        for row, i in enumerate(chunks):
            n = len(self._chunks[i])
            log_p0 = self._before(i)
            total = total + RELEASED_CHUNK / n * (log_p0.exp() * (log_p0 - log_p[row, -n:])).sum()
        return self._kl_weight * total

    @torch.no_grad()
    def _before(self, index: int) -> Float[Tensor, "pos d_vocab"]:
        if index in self._log_p0:
            return self._log_p0[index]
        chunk = self._chunks[index]
        found = _log_softmax(self._model.logits(TokenBatch.of([chunk], None, self._model.device)))[0]
        if sum(map(len, self._chunks)) * self._model.info.d_vocab <= KEPT_NUMBERS:
            self._log_p0[index] = found
        return found


def side_means(logits: Callable[[TokenBatch], Logits], items: Sequence[CanonicalItem], device: torch.device) -> list[Tensor]:
    """Return M, the mean NLL of each continuation that the items' losses read, in order."""
    sequences = [part for item in items for part in item.sequences()]
    batch = TokenBatch.of([ids for ids, _ in sequences], None, device)
    log_p = _log_softmax(logits(batch))
    found: list[Tensor] = []
    for row, (ids, rows) in enumerate(sequences):
        shift = batch.ids.shape[1] - len(ids)
        targets = torch.tensor(ids[rows.start + 1 :], device=device)
        found.append(-log_p[row, shift + rows.start : shift + rows.stop].gather(1, targets[:, None]).mean())
    return found


def _log_softmax(logits: Logits) -> Logits:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


@torch.no_grad()
def evaluation_losses(logits: Callable[[TokenBatch], Logits], items: Sequence[CanonicalItem], device: torch.device) -> list[float]:
    """Return each item's evaluation loss, of summed NLLs."""
    values: list[float] = []
    for start in range(0, len(items), 32):
        part = items[start : start + 32]
        means = iter(side_means(logits, part, device))
        for item in part:
            sums = [0.0 if side is None else next(means).item() * len(side) for side in (item.good, item.bad)]
            values.append(loss_value(item.kind, sums[0], sums[1]))
    return values


@torch.no_grad()
def general_loss(logits: Callable[[TokenBatch], Logits], chunks: Sequence[tuple[int, ...]], device: torch.device) -> float:
    """Return ℓ_G in nats per predicted token."""
    total, count = 0.0, 0
    for start in range(0, len(chunks), 16):
        batch = TokenBatch.of(chunks[start : start + 16], None, device)
        log_p = _log_softmax(logits(batch))[:, :-1].gather(-1, batch.ids[:, 1:, None])[..., 0]
        predicted = batch.mask[:, :-1]
        total -= float(log_p[predicted].double().sum())
        count += int(predicted.sum())
    return total / count if count else float("nan")


def epochs(objective: Objective, trainee: Trainee, n_items: int, n_chunks: int, settings: LoopSettings, seed: int) -> Iterator[int]:
    """Train, yielding 0 and then each epoch's number after it."""
    schedule = seeded_schedule(n_items, n_chunks, torch.Generator().manual_seed(seed))
    return descend(trainee.parameters, objective.gradients, schedule, settings)


def settings_of(config: LoopConfig, lr: float) -> LoopSettings:
    """Resolve a config."""
    return LoopSettings(config.lr or lr, config.epochs, config.group, "official" if config.compat == "official" else "fixed")


def fit_by_loop(
    model: LanguageModel,
    demonstrations: Demonstrations,
    config: LoopConfig,
    trainee: Trainee,
    header: Header,
    lr: float,
    *,
    seed: int,
    progress: Progress,
) -> Fitted:
    """Fit weights to the canonical examples of split `fit`, keeping the last epoch in the ball."""
    started = time.perf_counter()
    items = canonical_items(model, training_rows(demonstrations), config.loss)
    asked = canonical_items(model, checks(demonstrations).first(60), config.loss)
    texts, borrowed = regularisation_texts(demonstrations)
    chunks = neutral_chunks(model, texts, config.chunk_tokens, 2 * config.n_neutral)
    held, apart = chunks[: config.n_neutral], chunks[config.n_neutral :] or chunks
    objective = Objective(model, trainee, items, held, config.kl_weight)
    train: list[float] = []
    rise: list[float] = []
    success: list[float] = []
    base, kept, edit = float("nan"), 0, trainee.edit(header)
    for epoch in epochs(objective, trainee, len(items), len(held), settings_of(config, lr), seed):
        with torch.no_grad():
            train.append(_training_loss(trainee, items, model.device))
        general = general_loss(trainee.logits, apart, model.device)
        base = general if epoch == 0 else base
        rise.append(general / base - 1)
        values = evaluation_losses(trainee.logits, asked, model.device)
        success.append(sum(succeeds(value, item.threshold) for value, item in zip(values, asked)) / max(1, len(asked)))
        if config.ball == "none" or rise[-1] <= float(config.ball):
            kept, edit = epoch, trainee.edit(header)
        progress(epoch / config.epochs, f"Epoch {epoch} of {config.epochs}", loss=train[-1], general_loss_rise=rise[-1])
    scalars = {
        "n_fit": float(len(items)), "n_parameters": float(sum(p.numel() for p in trainee.parameters)), "kept_epoch": float(kept),
        "loss_before_nats": train[0], "loss_after_nats": train[kept], "general_loss_rise": rise[kept],
        "n_general_tokens": float(sum(map(len, apart)) - len(apart)), "seconds": time.perf_counter() - started,
    }  # fmt: skip
    if asked:
        scalars |= {"n_checks": float(len(asked)), "success_before": success[0], "success_after": success[kept]}
    return Fitted(edit, FitReport(scalars, _curves(train, rise, success if asked else []), notices=_notices(kept, borrowed, bool(held))))


def _training_loss(trainee: Trainee, items: Sequence[CanonicalItem], device: torch.device) -> float:
    total = 0.0
    for start in range(0, len(items), 32):
        part = items[start : start + 32]
        means = iter(side_means(trainee.logits, part, device))
        for item in part:
            total += loss_value(item.kind, *(0.0 if side is None else next(means).item() for side in (item.good, item.bad)))
    return total / len(items)


def _curves(train: Sequence[float], rise: Sequence[float], success: Sequence[float]) -> tuple[Curve, ...]:
    x = tuple(float(epoch) for epoch in range(len(train)))
    made = [Curve("training loss", x, tuple(train), "epoch", "nats per token")]
    made += [Curve("general loss rise", x, tuple(rise), "epoch", "ρ − 1")] if rise and rise[0] == rise[0] else []
    made += [Curve("success in other words", x, tuple(success), "epoch", "share")] if success else []
    return tuple(made)


def _notices(kept: int, borrowed: bool, is_held: bool) -> tuple[Notice, ...]:
    found: list[Notice] = []
    if kept == 0:
        found.append(
            Notice("warning", "No epoch stayed in the ball, so the edit is empty.", "Allow a wider ball or a smaller learning rate.")
        )
    if not is_held:
        found.append(Notice("warning", "No row has neutral text, so nothing holds the model back.", "Add rows of role general."))
    elif borrowed:
        found.append(Notice("note", "The set has no neutral text; the embedded world's holds the model.", "Add rows of role general."))
    return tuple(found)
