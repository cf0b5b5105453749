"""The canonical loop for weights: what LoRA and full finetuning share, by backpropagation through the network.

Ref: docs/methods/senses.md §3.1. The loop itself is `numerics.canonical_loop`, the same that trains senses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, Header
from workbench.knobs import as_released
from workbench.methods.canonical.compat import OFFICIAL_LOOP, LoopCompat
from workbench.methods.registry import FitReport, Fitted, Step
from workbench.methods.shared.canonical_compat import RELEASED_CHUNK
from workbench.methods.shared.canonical_config import CanonicalConfig
from workbench.methods.shared.canonical_examples import (
    CanonicalItem,
    Chunk,
    canonical_items,
    check_rows,
    neutral_chunks,
    regularisation_texts,
    training_rows,
)
from workbench.methods.shared.epochs import Epochs
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.canonical_loop import Draw, LoopSettings, descend, seeded_schedule
from workbench.numerics.canonical_losses import loss_slopes, loss_value
from workbench.progress import Progress
from workbench.shapes import Float, Logits, Tensor

# log p0 of neutral chunks is kept when all of it fits into this many numbers (200 MB in float32).
KEPT_NUMBERS = 50_000_000


@dataclass(frozen=True)
class LoopConfig(CanonicalConfig):
    """Knobs of what trains weights through the network."""

    compat: LoopCompat = as_released(OFFICIAL_LOOP)

    @property
    def master(self) -> torch.dtype:
        """What trained weights are kept and updated in."""
        return getattr(torch, self.compat.master_dtype)


@runtime_checkable
class Trainee(Protocol):
    """Weights in training: its parameters, a forward that carries them, and a frozen copy as an edit."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """What is trained."""
        ...

    def logits(self, batch: TokenBatch) -> Logits:
        """Run the model under the weights as they are now."""
        ...

    def edit(self, header: Header) -> Edit:
        """Freeze the weights as they are now."""
        ...


class LoopObjective:
    """Σ over draws of L(example) + w·KL(chunk), by autograd."""

    def __init__(
        self,
        model: LanguageModel,
        trainee: Trainee,
        items: Sequence[CanonicalItem],
        chunks: Sequence[tuple[int, ...]],
        config: LoopConfig,
    ) -> None:
        self._model, self._trainee, self._items, self._chunks, self._kl_weight = model, trainee, items, chunks, config.kl_weight
        self._scale, self._reverse = (RELEASED_CHUNK if config.compat.kl_reduce == "sum" else 1), config.compat.kl_direction == "p_to_p0"
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
            one, other = self._before(i), log_p[row, -n:]
            if self._reverse:
                one, other = other, one
            total = total + self._scale / n * (one.exp() * (one - other)).sum()
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


def epochs(
    objective: LoopObjective, trainee: Trainee, n_items: int, n_chunks: int, settings: LoopSettings, seed: int, out: int | None = None
) -> Iterator[int]:
    """Train, yielding 0 and then each epoch's number after it; `out`: an item that is passed over where it was drawn."""
    schedule = seeded_schedule(n_items, n_chunks, torch.Generator().manual_seed(seed))
    return descend(trainee.parameters, objective.gradients, schedule, settings, out=out)


def loop_settings(config: LoopConfig, lr: float, n_items: int) -> LoopSettings:
    """Resolve a config for so many examples."""
    group, compat = config.grouped(n_items), config.compat
    return LoopSettings(config.lr or lr, config.epochs, group, compat.accumulate, optimiser=compat.optimiser)


def neutral_halves(model: LanguageModel, demonstrations: Demonstrations, config: LoopConfig) -> tuple[list[Chunk], list[Chunk], bool]:
    """The neutral chunks that hold the weights, those that tell the damage, and whether they are the embedded world's."""
    texts, borrowed = regularisation_texts(demonstrations)
    chunks = neutral_chunks(model, texts, config.chunk_tokens, 2 * config.n_neutral)
    return chunks[: config.n_neutral], chunks[config.n_neutral :] or chunks, borrowed


def loop_steps(
    model: LanguageModel,
    train: Demonstrations,
    config: LoopConfig,
    trainee: Trainee,
    header: Header,
    lr: float,
    neutral: Sequence[tuple[int, ...]],
    *,
    seed: int,
) -> Iterator[Step]:
    """Train on all rows, held by all of the neutral chunks, yielding the unedited weights and then those after each epoch."""
    items = canonical_items(model, train, config.loss)
    objective = LoopObjective(model, trainee, items, neutral, config)
    for epoch in epochs(objective, trainee, len(items), len(neutral), loop_settings(config, lr, len(items)), seed):
        yield Step(epoch / config.epochs, lambda: trainee.edit(header), trainee.logits)


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
    """Fit weights to the canonical examples of split `fit`, keeping the last epoch in the ball (docs/methods/senses.md §3.1, §3.7).

    Raises:
        NotEnoughData, BadPrompt: as `canonical_items`.
    """
    started = time.perf_counter()
    items = canonical_items(model, training_rows(demonstrations), config.loss)
    asked = canonical_items(model, check_rows(demonstrations).first(60), config.loss)
    held, apart, borrowed = neutral_halves(model, demonstrations, config)
    objective = LoopObjective(model, trainee, items, held, config)
    seen, base, edit = Epochs(), float("nan"), trainee.edit(header)
    for epoch in epochs(objective, trainee, len(items), len(held), loop_settings(config, lr, len(items)), seed):
        seen.train.append(_training_loss(trainee, items, model.device))
        general = general_loss(trainee.logits, apart, model.device)
        base = general if epoch == 0 else base
        seen.rise.append(general / base - 1)
        seen.checked(evaluation_losses(trainee.logits, asked, model.device), asked)
        if config.keeps(seen.rise, seen.success, seen.kept):
            seen.kept, edit = epoch, trainee.edit(header)
        told: dict[str, object] = {"epoch": epoch, "loss": seen.train[-1], "general_loss_rise": seen.rise[-1]}
        progress(epoch / config.epochs, f"Epoch {epoch} of {config.epochs}", **told)
    scalars = seen.scalars(len(items), len(asked), sum(map(len, apart)) - len(apart), time.perf_counter() - started)
    scalars["n_parameters"] = float(sum(p.numel() for p in trainee.parameters))
    notices = seen.notices(has_neutral=bool(held), borrowed=borrowed)
    return Fitted(edit, FitReport(scalars, seen.curves(), notices=(*notices, *config.notices())))


@torch.no_grad()
def _training_loss(trainee: Trainee, items: Sequence[CanonicalItem], device: torch.device) -> float:
    total = 0.0
    for start in range(0, len(items), 32):
        part = items[start : start + 32]
        means = iter(side_means(trainee.logits, part, device))
        for item in part:
            total += loss_value(item.kind, *(0.0 if side is None else next(means).item() for side in (item.good, item.bad)))
    return total / len(items)
