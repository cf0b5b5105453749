"""What the canonical-examples protocol measures: the task, and its losses, hard negatives, rest and general text under an edit.

Ref: docs/methods/senses.md §9.1, §2.2. Summed NLLs per item (mean ones of evaluation items by the rule `eval_norm = mean`); general and
rest losses per predicted token; sums in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch

from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.errors import NotEnoughData
from workbench.evaluate.protocol.compat import EvalNorm
from workbench.evaluate.protocol.rules import OURS, Rules
from workbench.methods.shared.canonical_examples import CanonicalItem, Chunk, canonical_items, training_rows
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.methods.shared.sense_texts import NeutralReading, item_texts, losses, neutral_reading
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.canonical_losses import loss_value, succeeds
from workbench.numerics.sense_affine import SenseSelection
from workbench.operations import wide
from workbench.score import batch_scores, widened
from workbench.shapes import Float, Logits, Tensor


@dataclass(frozen=True)
class CanonicalTask:
    """One pair of the protocol: what is trained, the same behaviours in other words, and what must stay."""

    name: str
    pair: Split
    train: Demonstrations
    evaluation: Sequence[CanonicalItem]
    hard_negatives: Sequence[CanonicalItem]
    norm: EvalNorm = "sum"
    """How the evaluation items are scored; hard negatives are always summed."""
    round_to: torch.dtype | None = None


def canonical_task(model: LanguageModel, demonstrations: Demonstrations, pair: Split, rules: Rules = OURS) -> CanonicalTask:
    """Take one pair of a canonical set apart by the roles of its rows, to be measured by rules.

    Raises:
        BadKnob: a precision of scores that the model does not have.
        NotEnoughData: the split has no example to train on, or none to evaluate on.
    """
    rows = demonstrations.split(pair)
    train = training_rows(demonstrations, pair)
    evaluation = canonical_items(model, rows.tagged("role:evaluation"))
    if not len(train) or not evaluation:
        raise NotEnoughData(
            f"Split {pair} of {demonstrations.name!r} has {len(train)} examples to train on and {len(evaluation)} to evaluate on.",
            "Tag rows role:train and role:evaluation; the protocol needs both in the splits validation and test.",
        )
    name = train[0].tagged("task") or demonstrations.name
    kept = [
        item for split in rules.hard(pair) for item in canonical_items(model, demonstrations.split(split).tagged("role:hard_negatives"))
    ]
    return CanonicalTask(name, pair, train, evaluation, kept, rules.compat.eval_norm, rules.rounding(model))


@dataclass(frozen=True)
class StepMeasured:
    """A model under an edit: which items succeed, and three losses in nats (hard negatives per item, the others per token)."""

    succeeded: tuple[bool, ...]
    general: float
    hard_negatives: float
    rest: float

    @property
    def success(self) -> float:
        """Share of evaluation items that succeed."""
        return sum(self.succeeded) / len(self.succeeded)


@runtime_checkable
class Meter(Protocol):
    """Measures one kind of edit on one task."""

    def measure(self, edit: Edit | None) -> StepMeasured:
        """Measure an edit, or the unedited model."""
        ...


def rest_chunks(items: Sequence[CanonicalItem]) -> list[Chunk]:
    """Return prompt and continuation of evaluation items as plain texts: damage shows where the edited words occur."""
    return list(dict.fromkeys(item.prompt + item.sides[0] for item in items))


class _Reading:
    """The texts of a task as ids, each once, and what is read off their tokens' NLLs."""

    def __init__(self, task: CanonicalTask, general: Sequence[Chunk]) -> None:
        rest = rest_chunks(task.evaluation)
        sides = [item.prompt + side for items in (task.evaluation, task.hard_negatives) for item in items for side in item.sides]
        # Rows of like length waste less padding.
        self.texts: list[Chunk] = sorted(dict.fromkeys([*sides, *rest, *general]), key=len)
        self._at = {text: i for i, text in enumerate(self.texts)}
        self._task, self._general, self._rest = task, general, rest

    def measured(self, nll: Sequence[Float[Tensor, " _token"]]) -> StepMeasured:
        """Take the measures from each text's NLLs, of every token but its first."""
        values = self._losses(self._task.evaluation, nll, self._task.norm)
        hard = self._losses(self._task.hard_negatives, nll, "sum")
        general, rest = (self._per_token(chunks, nll) for chunks in (self._general, self._rest))
        return StepMeasured(succeeded(self._task.evaluation, values), general, sum(hard) / len(hard) if hard else 0.0, rest)

    def _losses(self, items: Sequence[CanonicalItem], nll: Sequence[Tensor], norm: EvalNorm) -> list[float]:
        sums = [float(nll[self._at[item.prompt + side]][-len(side) :].sum()) for item in items for side in item.sides]
        return item_values(items, sums, norm)

    def _per_token(self, chunks: Sequence[Chunk], nll: Sequence[Tensor]) -> float:
        rows = [nll[self._at[chunk]] for chunk in chunks]
        return sum(float(row.sum()) for row in rows) / sum(map(len, rows)) if rows else 0.0


class LogitsMeter:
    """Measures whatever gives logits: weights in training, without an edit made of them; each text is run once."""

    def __init__(self, task: CanonicalTask, general: Sequence[Chunk], device: torch.device) -> None:
        self._reading, self._device, self._round_to = _Reading(task, general), device, task.round_to
        self._general = sorted(general, key=len)

    def measure(self, logits: Callable[[TokenBatch], Logits]) -> StepMeasured:
        """Measure a forward."""
        return self._reading.measured(self._nll(logits, self._reading.texts))

    def general(self, logits: Callable[[TokenBatch], Logits]) -> float:
        """Measure general text alone."""
        nll = self._nll(logits, self._general)
        return sum(float(row.sum()) for row in nll) / sum(map(len, nll))

    @torch.no_grad()
    def _nll(self, logits: Callable[[TokenBatch], Logits], texts: Sequence[Chunk]) -> list[Tensor]:
        nll: list[Tensor] = []
        for start in range(0, len(texts), 64):
            batch = TokenBatch.of(texts[start : start + 64], None, self._device)
            rows = widened(logits(batch), self._round_to)
            found = rows.logsumexp(-1)[:, :-1] - rows[:, :-1].gather(-1, batch.ids[:, 1:, None])[..., 0]
            nll += [row[-n + 1 :].double() for row, n in zip(found, batch.lengths.tolist(), strict=True)]
        return nll


class EngineMeter:
    """Measures any edit, by running the model under it."""

    def __init__(self, model: LanguageModel, task: CanonicalTask, general: Sequence[Chunk]) -> None:
        self._model, self._task = model, task
        self._suffixes = {role: _suffix_batch(items) for role, items in (("E", task.evaluation), ("H", task.hard_negatives)) if items}
        self._texts = {name: _text_batch(chunks) for name, chunks in (("G", general), ("rest", rest_chunks(task.evaluation))) if chunks}

    def measure(self, edit: Edit | None) -> StepMeasured:
        """Measure an edit, or the unedited model."""
        return self.measure_all([edit])[0]

    def measure_all(self, edits: Sequence[Edit | None]) -> list[StepMeasured]:
        """Measure several edits as lanes of the same batches."""
        stacks = [() if edit is None else (edit,) for edit in edits]
        nll = {role: -self._total(batch, stacks) for role, batch in self._suffixes.items()}
        per_token = {name: -self._total(batch, stacks).sum(1) / self._n(batch) for name, batch in self._texts.items()}
        found: list[StepMeasured] = []
        for lane in range(len(edits)):
            values = item_values(self._task.evaluation, nll["E"][lane].tolist(), self._task.norm)
            kept = item_values(self._task.hard_negatives, nll["H"][lane].tolist() if "H" in nll else ())
            hard = sum(kept) / len(kept) if kept else 0.0
            general, rest = (float(per_token[name][lane]) if name in per_token else 0.0 for name in ("G", "rest"))
            found.append(StepMeasured(succeeded(self._task.evaluation, values), general, hard, rest))
        return found

    def _total(self, batch: TokenBatch, stacks: Sequence[Sequence[Edit]]) -> Float[Tensor, "lane row"]:
        size = max(1, 64 // len(stacks))
        return batch_scores(self._model, batch, stacks, batch_size=size, round_to=self._task.round_to).per_token.double().sum(-1)

    def _n(self, batch: TokenBatch) -> int:
        return int((batch.lengths - batch.n_prompt).sum())


class SenseMeter:
    """Measures tables of sense vectors on texts that were read once; nothing runs the transformer again."""

    def __init__(self, model: BackpackModel, task: CanonicalTask, general: Sequence[Chunk], selection: SenseSelection) -> None:
        self._model, self._task, self._selection = model, task, selection
        self._E = wide(model.embedding)
        self._evaluation = item_texts(model, task.evaluation)
        self._hard = item_texts(model, task.hard_negatives)
        self._general = neutral_reading(model, general).loss(selection)
        rest: NeutralReading = neutral_reading(model, rest_chunks(task.evaluation))
        self._rest = rest.loss(selection)

    def general(self, delta: Float[Tensor, "chosen d_model"]) -> float:
        """Measure general text alone."""
        return self._general.mean(delta, self._E)

    def measure_table(self, delta: Float[Tensor, "chosen d_model"]) -> StepMeasured:
        """Measure a table over the selection."""
        mean = self._task.norm == "mean"
        values = losses(self._task.evaluation, self._evaluation, self._selection, delta, self._E, mean)
        hard = losses(self._task.hard_negatives, self._hard, self._selection, delta, self._E) if self._hard else [0.0]
        return StepMeasured(
            succeeded(self._task.evaluation, values),
            self._general.mean(delta, self._E),
            sum(hard) / len(hard),
            self._rest.mean(delta, self._E),
        )


class EditMeter:
    """Measures one edit after another, each the quickest way: senses on texts that were read once, others by running the model."""

    def __init__(self, model: LanguageModel, task: CanonicalTask, general: Sequence[Chunk]) -> None:
        self._model, self._task, self._chunks = model, task, general
        self._senses: SenseMeter | None = None
        self._selection: SenseSelection | None = None

    @cached_property
    def _logits(self) -> LogitsMeter:
        return LogitsMeter(self._task, self._chunks, self._model.device)

    def measure(self, edit: Edit) -> StepMeasured:
        """Measure an edit at its dose."""
        senses = self._table(edit)
        if senses is not None:
            return senses[0].measure_table(senses[1])
        with applied(self._model, edit):
            return self.forward(self._model.logits)

    def forward(self, logits: Callable[[TokenBatch], Logits]) -> StepMeasured:
        """Measure whatever gives logits."""
        return self._logits.measure(logits)

    def general(self, edit: Edit) -> float:
        """Measure general text alone."""
        senses = self._table(edit)
        if senses is not None:
            return senses[0].general(senses[1])
        with applied(self._model, edit):
            return self._logits.general(self._model.logits)

    def _table(self, edit: Edit) -> tuple[SenseMeter, Tensor] | None:
        """A sense edit as the table that its meter takes."""
        if not isinstance(edit, SenseEdit) or not isinstance(self._model, BackpackModel):
            return None
        known, mine = self._selection, edit.selection
        if self._senses is None or known is None or not mine.same(known):
            self._senses, self._selection = SenseMeter(self._model, self._task, self._chunks, mine), mine
        return self._senses, edit.dose * edit.delta


def _suffix_batch(items: Sequence[CanonicalItem]) -> TokenBatch:
    rows = [item.prompt + side for item in items for side in item.sides]
    return TokenBatch.of(rows, [len(item.prompt) for item in items for _ in item.sides])


def _text_batch(chunks: Sequence[Chunk]) -> TokenBatch:
    ordered = sorted(chunks, key=len)  # rows of like length waste less padding
    return TokenBatch.of(ordered, [1] * len(ordered))


def item_values(items: Sequence[CanonicalItem], nll: Sequence[float], norm: EvalNorm = "sum") -> list[float]:
    """Return each item's evaluation loss from the summed NLLs of the continuations that the losses read, in order."""
    rows, found = iter(nll), list[float]()
    for item in items:
        sides = [0.0 if side is None else next(rows) / (len(side) if norm == "mean" else 1) for side in (item.good, item.bad)]
        found.append(loss_value(item.kind, *sides))
    return found


def succeeded(items: Sequence[CanonicalItem], values: Sequence[float]) -> tuple[bool, ...]:
    """Say of each item whether its loss is within its threshold."""
    return tuple(succeeds(value, item.threshold) for item, value in zip(items, values, strict=True))
