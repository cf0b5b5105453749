"""Choose knobs and dose of a method by what they gain on validation rows, under a limit on damage. Rows of split `test` are removed first.

Every candidate is fitted on split `fit`. Its largest dose within the limit is sought first, on neutral text alone: damage grows with the
dose, so those above one that is beyond are beyond too and cost nothing. The smaller doses of the few fits that gain most there follow.
Gain is the margin of good over bad answers, nats a token, prompt by prompt.
A candidate counts only if it beats the unedited model, and a placebo of its own size, beyond what the best of so many candidates would by
chance (`numerics.selection`); where none does, nothing is handed back. Among those that count, the largest gain over the placebo wins;
near-ties (.005 nats a token) go to the smaller damage. A candidate beyond the limit is never handed back: limits are checked first, so
those beyond it neither win nor cost the others their chance.
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

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.placebo import rotated
from workbench.errors import BadKnob, FitFailed, NoEffect, NotEnoughData
from workbench.methods.registry import Fitted, Notice, get, with_notices
from workbench.methods.shared.at_doses import AtDoses
from workbench.methods.shared.ground import ground_of
from workbench.methods.shared.placed import check_place, placed_fit
from workbench.methods.shared.validation import Measured, measured
from workbench.models.base import LanguageModel
from workbench.numerics.selection import MIN_ROWS, chance_of_best
from workbench.progress import Cancelled, Progress, silent
from workbench.shapes import Float
from workbench.sites import Site

DOSES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
NEAR_TIE = 0.005
CHANCE = 0.04
"""How often the best of candidates that all do nothing may be taken."""
N_PLACEBOS = 2
MOST_AGAINST_PLACEBOS = 6
ALL_DOSES_OF = 3
"""Of so many fits, the best at their largest dose within the limit, the smaller doses are measured too."""


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
        """As a table row; None: not measured, since a smaller dose is beyond the limit."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self.values.items()}
        return {
            **found,
            "dose": self.dose,
            "margin, nats a token": self.measured.margin if self.measured.margins else None,
            "margin of its placebo": None if self.placebo is None else float(np.mean(self.placebo)),
            "good beats bad": self.measured.wins if self.measured.margins else None,
            "KL": self.measured.damage if math.isfinite(self.measured.damage) else None,
        }


@dataclass(frozen=True)
class Choice:
    """The fit that won (at dose 1), and at which dose; the unedited model; and every candidate, the best first."""

    fitted: Fitted
    best: Candidate
    base: Measured
    candidates: tuple[Candidate, ...]
    max_damage: float

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
    place: str = "",
    progress: Progress | None = None,
) -> Choice:
    """Fit every combination of `over`, on top of preset and values, measure all doses on validation rows, and keep the best.

    Args:
        over: values to try, by knob; none: those that the method says are worth trying. place: where every candidate acts.

    Raises:
        NotEnoughData: validation rows with both answers have fewer than 5 prompts. FitFailed: no combination could be fitted.
        NoEffect: nothing that was tried and stays within the limit is better than the unedited model and a random edit, beyond chance.
        Others: as `Method.fit`.
        Cancelled: with the `Choice` among what was tried so far, if anything of it counts.
    """
    known, tell, fixed = get(method), progress or silent(), dict(values or {})
    known.configure(fixed, preset)  # a wrong knob is no impossible combination
    check_place(known, model, place)
    seen = demonstrations.split("fit", "validation")
    rows = choosing_rows(seen)
    space = known.tries(model.info) if over is None else over
    combinations = _combinations(space, fixed)
    with memo.remembering(_sites(space, model)):
        neutral = ground_of(model, seen, seed)
        (base,) = measured(model, [()], rows, neutral)
        tried = _Tried(base, max_damage)
        placebos: _Placebos = partial(_placebo_margins, model, rows)
        try:
            for i, knobs in enumerate(combinations):
                part = tell.part(0.8 * i / len(combinations), 0.8 * (i + 1) / len(combinations))
                part(0.0, f"Trying {i + 1} of {len(combinations)}", best=tried.most_gain)
                try:
                    tried_config = known.configure({**fixed, **knobs}, preset)
                    fitted = placed_fit(known, model, seen, tried_config, seed=seed, place=place, progress=part)
                except (BadKnob, FitFailed, NoEffect) as error:  # one impossible combination is no reason to give up the others
                    tried.failures.append(f"{knobs}: {error}")
                else:
                    tried.add(knobs, fitted, AtDoses(model, fitted.edit, doses, rows, neutral, max_damage))
            tell(0.8, "Measuring smaller doses of the best", best=tried.most_gain)
            for dosed in tried.leading():
                dosed.others()
            tell(0.85, "Measuring random edits of their size", best=tried.most_gain)
            best = tried.settled(placebos)
            # Fitted again on the whole set, so that its report sees held-out rows; the same rows give the same edit.
            config = known.configure({**fixed, **best.values}, preset)
            last = tell.part(0.9, 1.0)
            return tried.choice(placed_fit(known, model, demonstrations, config, seed=seed, place=place, progress=last))
        except Cancelled as cancelled:
            raise Cancelled(tried.so_far(demonstrations)) from cancelled


def choosing_rows(seen: Demonstrations) -> Demonstrations:
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
        self.failures: list[str] = []
        self.fits: list[tuple[Mapping[str, Any], Fitted, AtDoses]] = []
        self.ranked: list[Candidate] = []

    @property
    def most_gain(self) -> float | None:
        """The largest margin so far above the unedited model's, within the limit."""
        seen = [item.measured.margin for item in self.found if item.measured.margins]
        return max(seen) - self.base.margin if seen else None

    @property
    def found(self) -> list[Candidate]:
        """The candidates so far."""
        return [candidate for fit in self.fits for candidate in _candidates(*fit)]

    @property
    def _n_left(self) -> int:
        return sum(dosed.n_left for _, _, dosed in self.fits)

    def add(self, knobs: Mapping[str, Any], fitted: Fitted, dosed: AtDoses) -> None:
        """Remember one fit, measured at its largest dose within the limit."""
        dosed.largest()
        self.fits.append((knobs, fitted, dosed))

    def leading(self) -> list[AtDoses]:
        """Those fits that gain most at what was measured of them."""
        return sorted((dosed for *_, dosed in self.fits), key=lambda dosed: dosed.most_gain, reverse=True)[:ALL_DOSES_OF]

    def settled(self, placebos: _Placebos) -> Candidate:
        """The best of those that count, all others ranked behind it.

        Raises:
            FitFailed: nothing could be fitted. NoEffect: none counts.
        """
        if not self.found:
            text = f"None of {len(self.failures)} combinations could be fitted: {self.failures[0]}"
            raise FitFailed(text, "Change the demonstrations or the knobs.")
        self.ranked = settle(self.base, self.found, placebos, self.max_damage, self._n_left)
        return self.ranked[0]

    def choice(self, final: Fitted) -> Choice:
        """The choice, with what is told of it in the report of the final fit."""
        told = _told(final, self.ranked, self.base, self.max_damage, self.failures)
        return Choice(told, self.ranked[0], self.base, tuple(self.ranked), self.max_damage)

    def so_far(self, demonstrations: Demonstrations) -> Choice | None:
        """The choice among what was tried before a cancel, without placebos if none were measured yet; None if nothing of it counts."""
        if not self.found:
            return None
        try:
            self.ranked = self.ranked or settle(self.base, self.found, None, self.max_damage, self._n_left)
        except NoEffect:
            return None
        fitted = next(fitted for knobs, fitted, _ in self.fits if knobs is self.ranked[0].values)
        header = replace(fitted.edit.header, data=demonstrations.fingerprint)
        return self.choice(replace(fitted, edit=replace(fitted.edit, header=header)))


def _candidates(knobs: Mapping[str, Any], fitted: Fitted, dosed: AtDoses) -> list[Candidate]:
    return [Candidate(knobs, dose, one, fitted.edit.scaled(dose)) for dose, one in dosed.results().items()]


_Placebos = Callable[[Sequence[Edit]], list[tuple[float, ...]]]


def settle(base: Measured, found: Sequence[Candidate], placebos: _Placebos | None, max_damage: float, n_left: int = 0) -> list[Candidate]:
    """All candidates, the best of those that count first.

    Those within the limit that beat the unedited model beyond chance are measured beside placebos of their own size; they have to beat
    those as well, unless `placebos` is None: then nobody waits for them. `n_left` doses within the limit were not measured, since their
    fits gained less.

    Raises:
        NoEffect: none is within the limit and does both.
    """
    within = [item for item in found if item.measured.damage <= max_damage]
    if not within:
        least = min(found, key=lambda item: _order(item.measured.damage))
        told = f"The least harmful of {len(found)} settings moves neutral text by KL {least.measured.damage:.3g} nats a token"
        raise NoEffect(
            f"{told}, beyond the limit {max_damage:g}, so nothing is handed back.", "Raise the limit, gate the edit, or lower doses."
        )
    before = np.array(base.margins)
    margins = np.array([item.measured.margins for item in within])
    n_tried = len(within) + n_left
    better = _beyond_chance(within, margins - before, n_tried)
    if not better:
        best = max(within, key=lambda item: item.measured.margin)
        raise NoEffect(_no_effect(base, best, len(within), len(found), "the unedited model"), _NO_EFFECT_HINT)
    better = _ranked(better, base.margin)[:MOST_AGAINST_PLACEBOS]
    if placebos is None:
        return _behind(better, better, found, base, max_damage)
    beside = [replace(item, placebo=mine) for item, mine in zip(better, placebos([item.edit for item in better]))]
    gains = np.array([np.array(item.measured.margins) - np.array(item.placebo) for item in beside])
    counting = _beyond_chance(beside, gains, n_tried)
    if not counting:
        raise NoEffect(_no_effect(base, beside[0], len(within), len(found), "a random edit of its size"), _NO_EFFECT_HINT)
    return _behind(_ranked(counting, None), beside, found, base, max_damage)


def _beyond_chance(items: Sequence[Candidate], gains: Float[np.ndarray, "candidate row"], n_tried: int) -> list[Candidate]:
    """Those whose gain is beyond chance. The best of what was measured are the luckiest too, so all that they were taken from count."""
    return [item for item, p in zip(items, chance_of_best(gains)) if p * n_tried / len(items) <= CHANCE]


def _behind(
    ranked: list[Candidate], beside: Sequence[Candidate], found: Sequence[Candidate], base: Measured, max_damage: float
) -> list[Candidate]:  # fmt: skip
    """Those that count, in their order, and all others behind them; `beside` are those whose placebos were measured."""
    taken = {(id(item.values), item.dose) for item in ranked}
    shown = {(id(item.values), item.dose): item for item in beside}
    others = [shown.get((id(item.values), item.dose), item) for item in found if (id(item.values), item.dose) not in taken]
    # Damage that is no number is the worst of all.
    beyond = sorted((item for item in others if not item.measured.damage <= max_damage), key=lambda item: _order(item.measured.damage))
    return [*ranked, *_ranked([item for item in others if item.measured.damage <= max_damage], base.margin), *beyond]


def _order(damage: float) -> float:
    return math.inf if math.isnan(damage) else damage


_NO_EFFECT_HINT = "Use clearer or more demonstrations, another method, or a prompt."


def _no_effect(base: Measured, best: Candidate, n: int, n_tried: int, rival: str) -> str:
    beyond = f" ({n_tried - n} more are beyond the limit of damage)" if n_tried > n else ""
    return (
        f"No effect found: none of {n} settings{beyond} is better than {rival} beyond chance on {len(base.margins)} validation prompts, so "
        f"nothing is handed back. The best moves the margin from {base.margin:+.3f} to {best.measured.margin:+.3f} nats a token."
    )


def _sites(space: Mapping[str, Sequence[Any]], model: LanguageModel) -> tuple[Site, ...]:
    """The residual stream behind every layer that is tried."""
    tried = {layer for layers in space.get("layers", ()) for layer in layers or ()}
    return tuple(Site("resid_post", layer) for layer in sorted(tried) if 0 <= layer < model.info.n_layers)


def _combinations(space: Mapping[str, Sequence[Any]], fixed: Mapping[str, object]) -> list[dict[str, Any]]:
    """Every combination of the options of knobs that are not fixed."""
    free = {name: options for name, options in space.items() if name not in fixed}
    return [dict(zip(free, options)) for options in itertools.product(*free.values())]


def _ranked(found: Sequence[Candidate], base: float | None) -> list[Candidate]:
    """By gain over `base` (None: over each one's placebo), near-ties by damage, then by dose."""

    def key(item: Candidate) -> tuple[float, float, float]:
        gain = item.gain if base is None else item.measured.margin - base
        return (-round(gain / NEAR_TIE), item.measured.damage, item.dose)

    return sorted(found, key=key)


def _told(fitted: Fitted, ranked: Sequence[Candidate], base: Measured, max_damage: float, failures: Sequence[str]) -> Fitted:
    best = ranked[0]
    knobs = "".join(f"{name.replace('_', ' ')} = {_plain(value)}, " for name, value in best.values.items())
    margin = f"a random edit of its size: {best.measured.margin - best.gain:+.2f}"
    beside = margin if best.placebo is not None else "cancelled before it stood beside a random edit of its size"
    report = replace(fitted.report, tables={**fitted.report.tables, "choice": tuple(item.row() for item in ranked)})
    notices = [
        Notice(
            "note",
            f"{knobs}dose = {best.dose:g} were chosen among {len(ranked)} settings on {base.n} validation rows: margin "
            f"{base.margin:+.2f} → {best.measured.margin:+.2f} nats a token ({beside}), "
            f"KL {best.measured.damage:.3g} nats a token on neutral text "
            f"(limit {max_damage:g}).",
        )
    ]
    notices += [Notice("note", f"Could not be fitted: {text}") for text in failures[:3]]
    return with_notices(Fitted(fitted.edit, report), *notices)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
