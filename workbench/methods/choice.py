"""Choose knobs and dose of a method by what they gain on validation rows, under a limit on damage. Rows of split `test` are removed first.

Every candidate is fitted on split `fit`, and all its doses are measured side by side. Gain is the margin of good over bad answers, nats a
token, prompt by prompt. A candidate counts only if it beats the unedited model, and a placebo of its own size, beyond what the best of so
many candidates would by chance (`numerics.selection`); where none does, nothing is handed back. Among those that count, the largest gain
over the placebo whose damage stays within the limit wins; near-ties (.005 nats a token) go to the smaller damage.
Ref: docs/methods/shared.md §6.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.placebo import rotated
from workbench.errors import BadKnob, FitFailed, NoEffect, NotEnoughData
from workbench.methods.registry import Fitted, Notice, get, with_notices
from workbench.methods.shared.ground import ground_of
from workbench.methods.shared.validation import Measured, measured
from workbench.models.base import LanguageModel
from workbench.numerics.selection import MIN_ROWS, chance_of_best
from workbench.progress import Cancelled, Progress, silent

DOSES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
NEAR_TIE = 0.005
CHANCE = 0.04
"""How often the best of candidates that all do nothing may be taken."""
N_PLACEBOS = 2
MOST_AGAINST_PLACEBOS = 12


@dataclass(frozen=True)
class Candidate:
    """Knobs and a dose, with what they gain and break, and the margins of a placebo of their size where one was measured."""

    values: Mapping[str, Any]
    dose: float
    measured: Measured
    edit: Edit = field(compare=False, repr=False)
    placebo: tuple[float, ...] | None = None

    @property
    def gain(self) -> float:
        """The margin above that of the placebo, nats a token; NaN where none was measured."""
        return math.nan if self.placebo is None else self.measured.margin - float(np.mean(self.placebo))

    def row(self) -> dict[str, Any]:
        """As a table row."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self.values.items()}
        return {
            **found,
            "dose": self.dose,
            "margin, nats a token": self.measured.margin,
            "margin of its placebo": None if self.placebo is None else float(np.mean(self.placebo)),
            "good beats bad": self.measured.wins,
            "KL": self.measured.damage,
        }


@dataclass(frozen=True)
class Choice:
    """The fit that won (at dose 1), and at which dose; the unedited model; and every candidate, the best first."""

    fitted: Fitted
    best: Candidate
    base: Measured
    candidates: tuple[Candidate, ...]
    max_damage: float
    is_within_limit: bool

    @property
    def edit(self) -> Edit:
        """The edit at the chosen dose."""
        return self.fitted.edit.scaled(self.best.dose)


def chosen(
    model: LanguageModel,
    method: str,
    demonstrations: Demonstrations,
    values: Mapping[str, object] | None = None,
    *,
    preset: str | None = None,
    over: Mapping[str, Sequence[Any]] | None = None,
    doses: Sequence[float] = DOSES,
    max_damage: float = 0.02,
    seed: int = 0,
    progress: Progress | None = None,
) -> Choice:
    """Fit every combination of `over`, on top of preset and values, measure all doses on validation rows, and keep the best.

    Args:
        over: values to try, by knob; none: those that the method says are worth trying.

    Raises:
        NotEnoughData: validation rows with both answers have fewer than 5 prompts. FitFailed: no combination could be fitted.
        NoEffect: nothing that was tried is better than the unedited model and a random edit, beyond chance. Others: as `Method.fit`.
        Cancelled: with the `Choice` among what was tried so far, if anything of it counts.
    """
    known, tell, fixed = get(method), progress or silent(), dict(values or {})
    known.configure(fixed, preset)  # a wrong knob is no impossible combination
    seen = demonstrations.split("fit", "validation")
    rows = _held_out(seen)
    neutral = ground_of(model, seen, seed)
    combinations = _combinations(known.tries(model.info) if over is None else over, fixed)
    (base,) = measured(model, [()], rows, neutral)
    tried = _Tried(base, max_damage)
    placebos: _Placebos = partial(_placebo_margins, model, rows)
    try:
        for i, knobs in enumerate(combinations):
            part = tell.part(0.9 * i / len(combinations), 0.9 * (i + 1) / len(combinations))
            part(0.0, f"Trying {i + 1} of {len(combinations)}", best=tried.most_gain)
            try:
                fitted = known.fit(model, seen, known.configure({**fixed, **knobs}, preset), seed=seed, progress=part)
            except (BadKnob, FitFailed) as error:  # one impossible combination is no reason to give up the others; it is told below
                tried.failures.append(f"{knobs}: {error}")
            else:
                edits = [fitted.edit.scaled(dose) for dose in doses]
                results = measured(model, [(edit,) for edit in edits], rows, neutral)
                tried.add(fitted, [Candidate(knobs, *found) for found in zip(doses, results, edits)])
        if not tried.found:
            text = f"None of {len(combinations)} combinations could be fitted: {tried.failures[0]}"
            raise FitFailed(text, "Change the demonstrations or the knobs.")
        best = tried.settled(placebos)
        # Fitted again on the whole set, so that its report sees held-out rows; the same rows give the same edit.
        config = known.configure({**fixed, **best.values}, preset)
        return tried.choice(known.fit(model, demonstrations, config, seed=seed, progress=tell.part(0.9, 1.0)))
    except Cancelled as cancelled:
        if not tried.found:
            raise
        try:
            fitted = tried.fits[id(tried.settled(placebos).values)]
        except NoEffect:
            raise Cancelled from cancelled
        header = replace(fitted.edit.header, data=demonstrations.fingerprint)
        raise Cancelled(tried.choice(replace(fitted, edit=replace(fitted.edit, header=header)))) from cancelled


def _held_out(seen: Demonstrations) -> Demonstrations:
    rows = seen.split("validation").having("prompt", "positive", "negative")
    n_prompts = len(set(rows.prompts()))
    if n_prompts < MIN_ROWS:
        what = f"{n_prompts} prompts of {seen.name!r} are marked validation and have both answers"
        raise NotEnoughData(f"{what}; a choice needs {MIN_ROWS} to be told from chance.", "Mark some more rows validation.")
    return rows


def _placebo_margins(model: LanguageModel, rows: Demonstrations, edits: Sequence[Edit]) -> list[tuple[float, ...]]:
    """The margins of each edit's placebos, prompt by prompt, meaned over their seeds."""
    turned = [(rotated(edit, seed),) for edit in edits for seed in range(N_PLACEBOS)]
    margins = np.array([one.margins for one in measured(model, turned, rows, ())])
    return [tuple(mine.mean(0).tolist()) for mine in margins.reshape(len(edits), N_PLACEBOS, -1)]


class _Tried:
    """Candidates so far with their fits, and what could not be fitted."""

    def __init__(self, base: Measured, max_damage: float) -> None:
        self.base, self.max_damage = base, max_damage
        self.found: list[Candidate] = []
        self.failures: list[str] = []
        self.fits: dict[int, Fitted] = {}
        self.ranked: list[Candidate] = []

    @property
    def most_gain(self) -> float | None:
        """The largest margin so far above the unedited model's, within the limit or not."""
        return max((candidate.measured.margin - self.base.margin for candidate in self.found), default=None)

    def add(self, fitted: Fitted, candidates: Sequence[Candidate]) -> None:
        """Remember the candidates of one fit."""
        self.found += candidates
        self.fits[id(candidates[0].values)] = fitted

    def settled(self, placebos: _Placebos) -> Candidate:
        """The best of those that count, all others ranked behind it.

        Raises:
            NoEffect: none counts.
        """
        self.ranked = settle(self.base, self.found, placebos, self.max_damage)
        return self.ranked[0]

    def choice(self, final: Fitted) -> Choice:
        """The choice, with what is told of it in the report of the final fit."""
        best, limit = self.ranked[0], self.max_damage
        within = best.measured.damage <= limit
        told = _told(final, self.ranked, self.base, limit, within, self.failures)
        return Choice(told, best, self.base, tuple(self.ranked), limit, within)


_Placebos = Callable[[Sequence[Edit]], list[tuple[float, ...]]]


def settle(base: Measured, found: Sequence[Candidate], placebos: _Placebos, max_damage: float) -> list[Candidate]:
    """All candidates, the best of those that count first.

    Those that beat the unedited model beyond chance are measured beside placebos of their own size, which they have to beat as well.

    Raises:
        NoEffect: none does both.
    """
    before = np.array(base.margins)
    margins = np.array([item.measured.margins for item in found])
    better = [item for item, p in zip(found, chance_of_best(margins - before)) if p <= CHANCE]
    if not better:
        best = max(found, key=lambda item: item.measured.margin)
        raise NoEffect(_no_effect(base, best, len(found), "the unedited model"), _NO_EFFECT_HINT)
    better = _ranked(better, base.margin, max_damage)[:MOST_AGAINST_PLACEBOS]
    beside = [replace(item, placebo=mine) for item, mine in zip(better, placebos([item.edit for item in better]))]
    gains = np.array([np.array(item.measured.margins) - np.array(item.placebo) for item in beside])
    counting = [item for item, p in zip(beside, chance_of_best(gains)) if p <= CHANCE]
    if not counting:
        raise NoEffect(_no_effect(base, beside[0], len(found), "a random edit of its size"), _NO_EFFECT_HINT)
    ranked = _ranked(counting, None, max_damage)
    shown = {(id(item.values), item.dose): item for item in beside}
    first = {(id(item.values), item.dose) for item in ranked}
    others = [shown.get((id(item.values), item.dose), item) for item in found if (id(item.values), item.dose) not in first]
    return [*ranked, *_ranked(others, base.margin, max_damage)]


_NO_EFFECT_HINT = "Use clearer or more demonstrations, another method, or a prompt; a larger limit of damage does not help here."


def _no_effect(base: Measured, best: Candidate, n: int, rival: str) -> str:
    return (
        f"No effect found: none of {n} settings is better than {rival} beyond chance on {len(base.margins)} validation prompts, so nothing "
        f"is handed back. The best moves the margin from {base.margin:+.3f} to {best.measured.margin:+.3f} nats a token."
    )


def _combinations(space: Mapping[str, Sequence[Any]], fixed: Mapping[str, object]) -> list[dict[str, Any]]:
    """Every combination of the options of knobs that are not fixed."""
    free = {name: options for name, options in space.items() if name not in fixed}
    return [dict(zip(free, options)) for options in itertools.product(*free.values())]


def _ranked(found: Sequence[Candidate], base: float | None, max_damage: float) -> list[Candidate]:
    """Within the limit before beyond it; by gain over `base` (None: over each one's placebo), near-ties by damage."""

    def key(item: Candidate) -> tuple[bool, float, float, float]:
        beyond = item.measured.damage > max_damage
        gain = item.gain if base is None else item.measured.margin - base
        return (beyond, 0.0 if beyond else -round(gain / NEAR_TIE), item.measured.damage, item.dose)

    return sorted(found, key=key)


def _told(fitted: Fitted, ranked: Sequence[Candidate], base: Measured, max_damage: float, within: bool, failures: Sequence[str]) -> Fitted:
    best = ranked[0]
    knobs = "".join(f"{name.replace('_', ' ')} = {_plain(value)}, " for name, value in best.values.items())
    report = replace(fitted.report, tables={**fitted.report.tables, "choice": tuple(item.row() for item in ranked)})
    notices = [
        Notice(
            "note",
            f"{knobs}dose = {best.dose:g} were chosen among {len(ranked)} settings on {base.n} validation rows: margin "
            f"{base.margin:+.2f} → {best.measured.margin:+.2f} nats a token (a random edit of its size: "
            f"{best.measured.margin - best.gain:+.2f}), KL {best.measured.damage:.3g} nats a token on neutral text "
            f"(limit {max_damage:g}).",
        )
    ]
    if not within:
        notices.append(
            Notice(
                "warning",
                f"No candidate stays within KL {max_damage:g}; the least harmful was taken.",
                "Raise the limit, or gate the edit.",
            )
        )
    notices += [Notice("note", f"Could not be fitted: {text}") for text in failures[:3]]
    return with_notices(Fitted(fitted.edit, report), *notices)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
