"""Sense finetuning: move a few senses of a few words of a Backpack until the canonical examples hold.

Ref: docs/methods/senses.md; *Model Editing with Canonical Examples*, arXiv 2402.06155.
Law: C(v)_l ← C(v)_l + dose · δ[v,l] for the senses that the examples read most beyond neutral text; δ minimises the examples' loss plus
w · KL(p0‖p) on neutral text, by Adam. Exact: logits are affine in δ, so training runs no transformer.
Differs: each step follows the mean gradient of its five examples (the released code's sees only the fifth); learning rate and background
price follow the size of the vocabulary where they are left open. `compat = official` does as released.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.errors import Obstructed
from workbench.methods.registry import FitReport, Fitted, Notice, Step, header, method
from workbench.methods.senses.config import SensesConfig, draws, sense_settings, stored
from workbench.methods.senses.problem import SenseProblem, posed, trained
from workbench.methods.shared.canonical_examples import (
    canonical_items,
    canonical_obstacles,
    check_rows,
    neutral_chunks,
    regularisation_texts,
    training_rows,
)
from workbench.methods.shared.epochs import Epochs
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.methods.shared.sense_texts import NeutralReading, item_texts, losses, neutral_reading
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.numerics.sense_training import NeutralLoss
from workbench.progress import Progress
from workbench.shapes import Tensor


def steps(
    model: LanguageModel, train: Demonstrations, config: SensesConfig, neutral: Sequence[tuple[int, ...]], *, seed: int
) -> Iterator[Step]:
    """Fit epoch by epoch to all rows, held by all of the neutral chunks."""
    owner, settings = _backpack(model), sense_settings(config, model)
    problem = posed(owner, canonical_items(model, train, config.loss), neutral_reading(owner, neutral), settings)
    top, chosen = header("senses", model, train, config, seed, {"n_senses": owner.n_senses}), problem.selection
    for epoch, delta in trained(problem, settings, seed):
        yield Step(epoch / config.epochs, lambda: SenseEdit(top, chosen.token_ids, chosen.sense_ids, delta.clone()))  # noqa: B023


def _backpack(model: LanguageModel) -> BackpackModel:
    if not isinstance(model, BackpackModel):
        raise Obstructed(f"{model.info.name} is no Backpack.", "Load embedded-backpack.")
    return model


@method(
    "senses",
    title="Sense finetuning",
    summary="Move a few senses of a few words of a Backpack, so that short examples hold and all else stays.",
    paper="arXiv 2402.06155",
    config=SensesConfig,
    edit=SenseEdit,
    needs=Needs(("prompt",), task="canonical", min_rows=1, senses=True),
    presets={
        "ours": {},
        "gentle": {"lr": 0.03, "kl_weight": 1.0, "ball": "1e-3"},
        "official-compat": {"lr": 0.01, "penalty": 1000.0, "compat": "official", "chunk_tokens": 500},
    },
    obstacles=canonical_obstacles,
    draws=draws,
    steps=steps,
    order=6,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: SensesConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit a table of sense vectors to the canonical examples of split `fit`.

    Raises:
        Obstructed: the model is no Backpack. NotEnoughData, BadPrompt: as `canonical_items`.
    """
    model = _backpack(model)
    started, settings = time.perf_counter(), sense_settings(config, model)
    items = canonical_items(model, training_rows(demonstrations), config.loss)
    texts, borrowed = regularisation_texts(demonstrations)
    chunks = neutral_chunks(model, texts, config.chunk_tokens, 2 * config.n_neutral)
    neutral = neutral_reading(model, chunks[: config.n_neutral], progress.part(0.0, 0.3))
    problem = posed(model, items, neutral, settings, progress.part(0.3, 0.4))
    apart = neutral_reading(model, chunks[config.n_neutral :], progress.part(0.4, 0.5))
    watch = _Watch(model, problem, check_rows(demonstrations), config, neutral, apart, borrowed)
    kept = problem.fresh()
    for epoch, delta in trained(problem, settings, seed):
        rise = watch.note(delta)
        if config.keeps(watch.seen.rise, watch.seen.success, watch.seen.kept):
            kept, watch.seen.kept = delta.clone(), epoch
        told: dict[str, object] = {"epoch": epoch, "loss": watch.seen.train[-1], "general_loss_rise": rise}
        progress(0.5 + 0.5 * epoch / config.epochs, f"Epoch {epoch} of {config.epochs}", **told)
    facts = {"n_senses": model.n_senses, "epoch": watch.seen.kept, "lr": settings.loop.lr, "penalty": settings.penalty}
    top = header("senses", model, demonstrations, config, seed, facts)
    edit = SenseEdit(top, problem.selection.token_ids, problem.selection.sense_ids, kept.cpu().to(stored(config)))
    return Fitted(edit, watch.report(kept, time.perf_counter() - started))


class _Watch:
    """What a fit records after each epoch, and the report made of it."""

    def __init__(
        self,
        model: BackpackModel,
        problem: SenseProblem,
        rows: Demonstrations,
        config: SensesConfig,
        neutral: NeutralReading,
        apart: NeutralReading,
        borrowed: bool,
    ) -> None:
        self._model, self._problem, self._config = model, problem, config
        self._held_apart, self._borrowed = apart.n_tokens > 0, borrowed
        self._measured = apart if self._held_apart else neutral
        self._general: NeutralLoss = self._measured.loss(problem.selection)
        self._items = canonical_items(model, rows, config.loss)
        self._texts = item_texts(model, self._items)
        self.seen = Epochs()

    def note(self, delta: Tensor) -> float:
        """Record an epoch; return the general loss's relative rise."""
        E = self._problem.objective.E
        self.seen.train.append(self._problem.objective.mean_loss(delta))
        self.seen.rise.append(self._general.ratio(delta, E) - 1 if self._measured.n_tokens else math.nan)
        self.seen.checked(losses(self._items, self._texts, self._problem.selection, delta, E), self._items)
        return self.seen.rise[-1]

    def report(self, delta: Tensor, seconds: float) -> FitReport:
        """Put what was recorded together."""
        selection = self._problem.selection
        scalars = self.seen.scalars(len(self._problem.picks), len(self._items), self._measured.n_tokens, seconds)
        scalars |= {"n_senses": float(len(selection)), "n_words": float(len(selection.token_ids.unique()))}
        rows = sense_rows(self._model, self._problem, delta)
        return FitReport(scalars, self.seen.curves(), {}, {"senses": rows}, self._notices())

    def _notices(self) -> tuple[Notice, ...]:
        found = self.seen.notices(has_neutral=self._measured.n_tokens > 0, borrowed=self._borrowed)
        short = sum(len(picked) < self._config.top_k for picked in self._problem.picks)
        if short:
            found.append(Notice("note", f"{short} examples read fewer than {self._config.top_k} senses; they move all that they read."))
        if self._measured.n_tokens and not self._held_apart:
            found.append(Notice("note", "The general loss was measured on the neutral text that the fit was held by.", "Add neutral rows."))
        return (*found, *self._config.notices())


def sense_rows(model: BackpackModel, problem: SenseProblem, delta: Tensor, limit: int = 64) -> tuple[dict[str, object], ...]:
    """Return the senses that moved most: their word, why they were picked, how far they moved, and which tokens the move promotes."""
    best: dict[tuple[int, int], tuple[float, float, float]] = {}
    for pick in (pick for picked in problem.picks for pick in picked):
        known = best.get((pick.token, pick.sense))
        if known is None or pick.score > known[2]:
            best[pick.token, pick.sense] = (pick.raw, pick.background, pick.score)
    norms = delta.norm(dim=1)
    order = norms.argsort(descending=True)[:limit]
    pushed = (
        (delta[order] @ problem.objective.E[: model.n_tokens].T).topk(min(5, model.n_tokens)).indices if len(order) else torch.zeros(0, 5)
    )
    rows: list[dict[str, object]] = []
    for i, promoted in zip(order.tolist(), pushed.tolist()):
        token, sense = int(problem.selection.token_ids[i]), int(problem.selection.sense_ids[i])
        raw, base, score = best[token, sense]
        rows.append(
            {
                "word": str(model.tokenizer.decode([token])),
                "token": token,
                "sense": sense,
                "read": raw,
                "background": base,
                "score": score,
                "moved": float(norms[i]),
                "promotes": [str(model.tokenizer.decode([int(t)])) for t in promoted],
            }
        )
    return tuple(rows)
