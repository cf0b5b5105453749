"""Sense finetuning: move a few senses of a few words of a Backpack until the canonical examples hold.

Ref: specs/canonical.md §4, §5; *Model Editing with Canonical Examples*, arXiv 2402.06155.
Law: C(v)_l ← C(v)_l + dose · δ[v,l] for the senses that the examples read most beyond neutral text; δ minimises the examples' loss plus
w · KL(p0‖p) on neutral text, by Adam. Exact: logits are affine in δ, so training runs no transformer.
Differs: each step follows the mean gradient of its five examples (the released code's sees only the fifth); learning rate and background
price follow the size of the vocabulary where they are left open. `compat = official` does as released.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.errors import Obstructed
from workbench.knobs import knob
from workbench.methods.canonical import (
    LossChoice,
    canonical_items,
    canonical_obstacles,
    checks,
    neutral_chunks,
    regularisation_texts,
    training_rows,
)
from workbench.methods.registry import Curve, FitReport, Fitted, Needs, Notice, header, method
from workbench.methods.sense_edit import SenseEdit
from workbench.methods.sense_problem import SenseProblem, SenseSettings, item_texts, losses, posed, trained
from workbench.methods.sense_readings import NeutralReading, neutral_reading
from workbench.models.backpack import BackpackModel
from workbench.models.base import LanguageModel
from workbench.numerics.canonical_loop import LoopSettings
from workbench.numerics.canonical_losses import succeeds
from workbench.numerics.sense_training import NeutralLoss
from workbench.progress import Progress
from workbench.shapes import Tensor

# Below this many word types every one of them occurs in neutral text, and a price of 1000 would pick the rarest instead of the most read.
SMALL_VOCABULARY = 10_000


@dataclass(frozen=True)
class SensesConfig:
    """Knobs of sense finetuning."""

    top_k: int = knob(
        8, label="Senses per example", help="How many senses each example may move.", bounds=(1, 64), symbol="top_k", main=True
    )
    lr: float | None = knob(
        None,
        label="Learning rate",
        help="Step size of Adam; none: 0.1 for a small vocabulary, 0.01 for a full one.",
        bounds=(1e-5, 1.0),
        main=True,
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
    penalty: float | None = knob(
        None,
        label="Price of common senses",
        symbol="λ",
        bounds=(0.0, 1e5),
        help="How much less a sense scores for being read in neutral text; none: 1 for a small vocabulary, 1000 for a full one.",
    )
    loss: LossChoice = knob("auto", label="Loss", help="Of every row; auto takes each row's own, or what its sides suggest.")
    ball: Literal["none", "1e-3", "1e-4", "1e-5"] = knob(
        "none",
        label="Degradation ball",
        symbol="ε",
        help="Keep the last epoch in which the loss on neutral text has risen by at most this share; none keeps the last epoch.",
    )
    n_neutral: int = knob(64, label="Neutral chunks", help="How many chunks of neutral text hold the model.", bounds=(0, 3000))
    chunk_tokens: int = knob(128, label="Chunk length", help="Tokens of a neutral chunk at most.", bounds=(2, 512), unit="tokens")
    group: int = knob(5, label="Examples per step", help="Examples whose mean gradient makes a step.", bounds=(1, 100))
    compat: Literal["ours", "official"] = knob(
        "ours", label="Compatibility", help="official repeats the released code, its quirks included."
    )


def settings_of(config: SensesConfig, model: LanguageModel) -> SenseSettings:
    """Resolve a config for a model: what is left open, and what `compat` switches (specs/canonical.md §10)."""
    small, official = model.info.d_vocab < SMALL_VOCABULARY, config.compat == "official"
    lr = config.lr if config.lr is not None else (0.1 if small else 0.01)
    penalty = config.penalty if config.penalty is not None else (1.0 if small else 1000.0)
    loop = LoopSettings(lr, config.epochs, config.group, "official" if official else "fixed")
    return SenseSettings(loop, config.top_k, penalty, config.kl_weight, gvb="subtract" if official else "add", pick_ineligible=official)


@method(
    "senses",
    title="Sense finetuning",
    summary="Move a few senses of a few words of a Backpack, so that short examples hold and all else stays.",
    paper="arXiv 2402.06155",
    config=SensesConfig,
    edit=SenseEdit,
    needs=Needs(("prompt",), task="canonical", min_rows=1, senses=True),
    presets={
        "gentle": {"lr": 0.03, "kl_weight": 1.0, "ball": "1e-3"},
        "released": {"lr": 0.01, "penalty": 1000.0, "compat": "official", "chunk_tokens": 500},
    },
    obstacles=canonical_obstacles,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: SensesConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit a table of sense vectors to the canonical examples of split `fit`."""
    if not isinstance(model, BackpackModel):
        raise Obstructed(f"{model.info.name} is no Backpack.", "Load embedded-backpack, or use lora.")
    started, settings = time.perf_counter(), settings_of(config, model)
    items = canonical_items(model, training_rows(demonstrations), config.loss)
    texts, borrowed = regularisation_texts(demonstrations)
    chunks = neutral_chunks(model, texts, config.chunk_tokens, 2 * config.n_neutral)
    neutral = neutral_reading(model, chunks[: config.n_neutral], progress.part(0.0, 0.3))
    problem = posed(model, items, neutral, settings, progress.part(0.3, 0.4))
    apart = neutral_reading(model, chunks[config.n_neutral :], progress.part(0.4, 0.5))
    watch = _Watch(model, problem, checks(demonstrations), config, neutral, apart, borrowed)
    kept = problem.fresh()
    epsilon = None if config.ball == "none" else float(config.ball)
    for epoch, delta in trained(problem, settings, seed):
        rise = watch.note(epoch, delta)
        if epsilon is None or rise <= epsilon:
            kept, watch.kept_epoch = delta.clone(), epoch
        progress(0.5 + 0.5 * epoch / config.epochs, f"Epoch {epoch} of {config.epochs}", loss=watch.train[-1], general_loss_rise=rise)
    facts = {"n_senses": model.n_senses, "epoch": watch.kept_epoch, "lr": settings.loop.lr, "penalty": settings.penalty}
    top = header("senses", model, demonstrations, config, seed, facts)
    edit = SenseEdit(top, problem.selection.token_ids, problem.selection.sense_ids, kept.cpu())
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
        self.train: list[float] = []
        self.rise: list[float] = []
        self.success: list[float] = []
        self.kept_epoch = 0

    def note(self, epoch: int, delta: Tensor) -> float:
        """Record an epoch; return the general loss's relative rise."""
        E = self._problem.objective.E
        self.train.append(self._problem.objective.mean_loss(delta))
        self.rise.append(self._general.ratio(delta, E) - 1 if self._measured.n_tokens else math.nan)
        if self._items:
            found = losses(self._items, self._texts, self._problem.selection, delta, E)
            self.success.append(sum(succeeds(value, item.threshold) for value, item in zip(found, self._items)) / len(found))
        return self.rise[-1]

    def report(self, delta: Tensor, seconds: float) -> FitReport:
        """Put what was recorded together."""
        at = self.kept_epoch
        scalars = {
            "n_fit": float(len(self._problem.picks)),
            "n_senses": float(len(self._problem.selection)),
            "n_words": float(len(self._problem.selection.token_ids.unique())),
            "kept_epoch": float(at),
            "loss_before_nats": self.train[0],
            "loss_after_nats": self.train[at],
            "general_loss_rise": self.rise[at],
            "n_general_tokens": float(self._measured.n_tokens),
            "seconds": seconds,
        }
        epochs = tuple(float(epoch) for epoch in range(len(self.train)))
        curves = [Curve("training loss", epochs, tuple(self.train), "epoch", "nats per token")]
        if self._measured.n_tokens:
            curves.append(Curve("general loss rise", epochs, tuple(self.rise), "epoch", "ρ − 1"))
        if self.success:
            curves.append(Curve("success in other words", epochs, tuple(self.success), "epoch", "share"))
            scalars |= {"n_checks": float(len(self._items)), "success_before": self.success[0], "success_after": self.success[at]}
        rows = sense_rows(self._model, self._problem, delta)
        return FitReport(scalars, tuple(curves), {}, {"senses": rows}, self._notices())

    def _notices(self) -> tuple[Notice, ...]:
        found: list[Notice] = []
        short = sum(len(picked) < self._config.top_k for picked in self._problem.picks)
        if short:
            found.append(Notice("note", f"{short} examples read fewer than {self._config.top_k} senses; they move all that they read."))
        if not self._measured.n_tokens:
            found.append(
                Notice("warning", "No row has neutral text, so nothing holds the rest of the model back.", "Add rows of role general.")
            )
        elif self._borrowed:
            found.append(Notice("note", "The set has no neutral text; the embedded world's holds the model.", "Add rows of role general."))
        if self._measured.n_tokens and not self._held_apart:
            found.append(Notice("note", "The general loss was measured on the neutral text that the fit was held by.", "Add neutral rows."))
        if self.kept_epoch == 0:
            found.append(
                Notice(
                    "warning",
                    "No epoch stayed in the ball, so the edit is empty.",
                    "Allow a wider ball, a smaller learning rate, or more hold.",
                )
            )
        elif self.train[self.kept_epoch] >= self.train[0]:
            found.append(Notice("warning", "The training loss did not fall.", "Raise the learning rate or the number of epochs."))
        return tuple(found)


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
                "promotes": ", ".join(repr(str(model.tokenizer.decode([int(t)]))) for t in promoted),
            }
        )
    return tuple(rows)
