"""What a TaRot fit can show: trajectory, health of the surrogate, angles, prompts before and after, and what went wrong.

Arrays: `angles_rms` and `cosine` (layer, head) size of the turn and mean cos(z, z'), of `turned_layers` (layer); `relevance` (layer,
head) evidence, where heads were ranked; `angles_random` (head that may turn) turns of a random point of the box, the farthest first, in
the mean over points; `p_before`, `p_after` per training prompt, `p_before_validation`, `p_after_validation`; `points` (trial, dim) and
`scalars` (trial, field), from which `Trials.from_tensors` resumes.
Tables: `trials`, `finalists`, `confusion`. Ref: docs/methods/tarot.md §8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.methods.registry import Curve, FitReport, Notice
from workbench.methods.tarot.config import TarotConfig
from workbench.methods.tarot.edit import RotationEdit
from workbench.methods.tarot.heads import HeadEvidence
from workbench.methods.tarot.objective import AngleObjective
from workbench.methods.tarot.task import Chosen, label_of
from workbench.models.base import LanguageModel
from workbench.numerics.rotations import AngleSpace, Variant, mean_cosine
from workbench.search import Found, health
from workbench.shapes import Float, Tensor

BOX_POINTS = 64
"""Random points of the box that a map of turns is laid beside."""
BLIND = 0.1
"""Rank correlation of forecast and outcome below which a surrogate cannot be said to have guided the search."""


@dataclass(frozen=True, eq=False)
class HeadSelection:
    """Hold the finalists: points, and what validation (or the training objective) said of each."""

    points: Float[Tensor, "finalist dim"]
    indices: tuple[int, ...]
    accuracy: tuple[float, ...]
    probability: tuple[float, ...]
    size: tuple[float, ...]
    chosen: int
    on: str

    @property
    def point(self) -> Float[Tensor, " dim"]:
        """Return the point that was chosen."""
        return self.points[self.chosen]

    def table(self) -> tuple[Mapping[str, Any], ...]:
        """Return one row a finalist; call -1 is the identity where the search did not include it."""
        return tuple(
            {"call": i, "accuracy": a, "mean_p": p, "rms_rad": s, "chosen": k == self.chosen}
            for k, (i, a, p, s) in enumerate(zip(self.indices, self.accuracy, self.probability, self.size))
        )


def report(
    model: LanguageModel,
    config: TarotConfig,
    edit: RotationEdit,
    found: Found,
    selection: HeadSelection,
    chosen: Chosen,
    train: AngleObjective,
    validation: AngleObjective | None,
    evidence: HeadEvidence | None,
) -> FitReport:
    """Return the report of a fit."""
    space, trials = train.space, found.trials
    identity = selection.points.new_full((space.dim,), space.identity)
    both = torch.stack([identity, selection.point])
    before_after, arrays = _answers("train", train, both)
    scalars = {**_counts(chosen), "angles": float(space.dim), "calls": float(len(trials))}
    scalars |= {"best_objective": trials.best.value, "first_objective": trials.rows[0].value, **before_after}
    arrays |= _turns(edit, found, space)
    if evidence is not None:
        arrays["relevance"] = evidence.relevance.numpy()
    if validation is not None:
        before_after, more = _answers("validation", validation, both)
        scalars, arrays = scalars | before_after, arrays | more
    scalars |= _health(found)
    scored = train if validation is None else validation
    confusion = _confusion(model, scored, both)
    scalars["majority_rate"] = max(Counter(label_of(row) for row in scored.task.rows).values()) / len(scored.task)
    notices = _notices(config, found, selection, chosen, scalars, confusion)
    tables = {"trials": tuple(trials.table()), "finalists": selection.table(), "confusion": confusion}
    return FitReport(scalars, _curves(found), arrays, tables, notices)


def stopped_report(edit: RotationEdit, found: Found, space: AngleSpace) -> FitReport:
    """Return what a search that was stopped can show: its trials, from which it can go on; nothing was answered with its best."""
    scalars = {"calls": float(len(found.trials)), "best_objective": found.trials.best.value, "first_objective": found.trials.rows[0].value}
    scalars |= _health(found)
    notices = (*_search_notices(found, scalars), _optimistic())
    return FitReport(scalars, _curves(found), _turns(edit, found, space), {"trials": tuple(found.trials.table())}, notices)


def _turns(edit: RotationEdit, found: Found, space: AngleSpace) -> dict[str, np.ndarray]:
    """How far each head turns, and the trials from which the search can go on."""
    cosine = mean_cosine(edit.variant, edit.angles, edit.width).numpy()
    return {
        "angles_rms": _rms(edit.variant, edit.angles),
        "angles_random": random_turns(space),
        "cosine": cosine,
        "turned_layers": np.array(edit.layers),
        **{name: tensor.numpy() for name, tensor in found.trials.tensors().items()},
    }


def _optimistic() -> Notice:
    return Notice("note", "The winner was chosen on the training objective; its value is optimistic.", "Set select_on = val.")


def _counts(chosen: Chosen) -> dict[str, float]:
    return {
        "n_train": float(len(chosen.train)),
        "n_right_before": float(chosen.n_right),
        "n_wrong_before": float(chosen.n_wrong),
        "n_validation": float(len(chosen.validation)),
    }


def _answers(split: str, objective: AngleObjective, both: Tensor) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """How the unedited model and the winner answer the prompts of one split."""
    found = objective.answers(both)
    right, p = found.right, found.p
    scalars = {
        f"{split}_accuracy_before": float(right[0].mean()),
        f"{split}_accuracy_after": float(right[1].mean()),
        f"{split}_p_before": float(p[0].mean()),
        f"{split}_p_after": float(p[1].mean()),
    }
    suffix = "" if split == "train" else f"_{split}"
    return scalars, {f"p_before{suffix}": p[0].numpy(), f"p_after{suffix}": p[1].numpy()}


def _rms(variant: Variant, angles: Float[Tensor, "... angle"]) -> np.ndarray:
    moved = angles - 1 if variant == "scale" else angles
    return moved.square().mean(-1).sqrt().numpy()


def random_turns(space: AngleSpace) -> Float[np.ndarray, " head"]:
    """How far points drawn anywhere in the box turn each head that may turn, the farthest first, in the mean over `BOX_POINTS` points."""
    points = torch.rand(BOX_POINTS, space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turns = _rms(space.variant, space.angles(points)).reshape(BOX_POINTS, -1)
    return np.sort(turns[:, (space.owner >= 0).any(-1).flatten().numpy()], axis=1)[:, ::-1].mean(0)


def _curves(found: Found) -> tuple[Curve, ...]:
    rows = found.trials.rows
    x = tuple(float(row.index + 1) for row in rows)
    curves = (
        Curve("objective", x, tuple(row.value for row in rows), "call", "objective"),
        Curve("best so far", x, tuple(row.best for row in rows), "call", "objective"),
        Curve("first call", x, tuple(rows[0].value for _ in rows), "call", "objective"),
    )
    known = [row for row in rows if row.noise == row.noise]
    if not known:
        return curves
    at = tuple(float(row.index + 1) for row in known)
    return (
        *curves,
        Curve("forecast", at, tuple(row.predicted for row in known), "call", "objective"),
        Curve("surrogate noise", at, tuple(row.noise for row in known), "call", "share of variance"),
        Curve("region", at, tuple(row.region for row in known), "call", "share of the box"),
    )


def _health(found: Found) -> dict[str, float]:
    if sum(row.stage == "search" for row in found.trials.rows) < 3:
        return {}
    state = health(found.trials)
    scalars = {
        "surrogate_rank_correlation": state.rank_correlation,
        "surrogate_noise_share": state.noise,
        "surrogate_uninformative_calls": float(state.uninformative),
        "trend_rank_correlation": state.trend,
        "spread": state.spread,
        "boundary_share": state.boundary,
    }
    return {name: value for name, value in scalars.items() if value == value}


def _confusion(model: LanguageModel, scored: AngleObjective, both: Tensor) -> tuple[Mapping[str, Any], ...]:
    """Return label x answer counts before and after: a model that always answers the same is visible here."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for when, tokens in zip(("before", "after"), scored.answers(both).tokens.tolist()):
        for row, token in zip(scored.task.rows, tokens):
            counts[when, label_of(row), str(model.tokenizer.decode([token]))] += 1
    return tuple({"when": w, "label": label, "answer": answer, "n": n} for (w, label, answer), n in sorted(counts.items()))


def _notices(
    config: TarotConfig,
    found: Found,
    selection: HeadSelection,
    chosen: Chosen,
    scalars: Mapping[str, float],
    confusion: tuple[Mapping[str, Any], ...],
) -> tuple[Notice, ...]:
    notices: list[Notice] = []
    half = chosen.n_asked
    if chosen.n_right < half or chosen.n_wrong < half:
        text = f"The unedited model answers {chosen.n_right} of the training prompts right and {chosen.n_wrong} wrong"
        notices.append(Notice("note", f"{text}; {half} of each were asked for.", "Add harder or easier rows of split fit."))
    if selection.size[selection.chosen] == 0.0:
        text = "No candidate beat the unedited model; the edit is the identity."
        notices.append(Notice("warning", text, "Raise the budget or the bound."))
    notices += _search_notices(found, scalars)
    answers = {row["answer"] for row in confusion if row["when"] == "after"}
    if len(answers) == 1 and len({row["label"] for row in confusion}) > 1:
        text = f"The edited model answers {answers.pop()!r} to everything."
        notices.append(Notice("warning", text, "Balance the labels."))
    if selection.on == "train":
        notices.append(_optimistic())
    return tuple(notices)


def _search_notices(found: Found, scalars: Mapping[str, float]) -> list[Notice]:
    notices: list[Notice] = []
    calls = scalars.get("surrogate_uninformative_calls", 0.0)
    if calls > len(found.trials) / 2:
        text = f"The surrogate explained less than half of the variance at {calls:.0f} of {len(found.trials)} calls."
        notices.append(Notice("warning", text, "Turn fewer heads, tie angles, or use optimizer = es."))
    follows = scalars.get("surrogate_rank_correlation", 1.0)
    if follows < BLIND:
        text = f"The surrogate's forecasts do not follow the outcomes (rank correlation {follows:.2f}): it searched blindly."
        notices.append(Notice("warning", text, "Turn fewer heads, use optimizer = es, or more training prompts."))
    if found.stopped == "cancelled":
        notices.append(Notice("note", f"The search was cancelled after {len(found.trials)} calls.", "Resume it from its trials."))
    return notices
