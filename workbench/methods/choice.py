"""Choose knobs and dose of a method by what they gain on validation rows, under a limit on damage. Rows of split `test` are removed first.

Every candidate is fitted on split `fit`, and all its doses are measured side by side. The best benefit whose damage (KL on neutral text,
nats a token) stays within the limit wins; near-ties (0.5 %) go to the smaller damage.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import BadKnob, FitFailed, NotEnoughData
from workbench.methods.registry import Fitted, Notice, get, with_notices
from workbench.methods.shared.neutral import neutral_of
from workbench.methods.shared.validation import Measured, measured
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress, silent

DOSES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
NEAR_TIE = 0.005
N_NEUTRAL = 24


@dataclass(frozen=True)
class Candidate:
    """Knobs and a dose, with what they gain and break."""

    values: Mapping[str, Any]
    dose: float
    measured: Measured

    def row(self) -> dict[str, Any]:
        """As a table row."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self.values.items()}
        return {
            **found,
            "dose": self.dose,
            "P(good)": self.measured.benefit,
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
        NotEnoughData: no validation rows with a good and a bad answer. FitFailed: no combination could be fitted. Others: as `Method.fit`.
        Cancelled: with the `Choice` among what was tried so far, if anything was.
    """
    known, tell, fixed = get(method), progress or silent(), dict(values or {})
    known.configure(fixed, preset)  # a wrong knob is no impossible combination
    seen = demonstrations.split("fit", "validation")
    rows = seen.split("validation").having("prompt", "positive", "negative")
    if not len(rows):
        raise NotEnoughData(f"No validation rows in {demonstrations.name!r} to choose by.", "Mark some rows validation.")
    neutral = neutral_of(model, seen, seed).held[:N_NEUTRAL]
    combinations = _combinations(known.tries(model.info) if over is None else over, fixed)
    (base,) = measured(model, [()], rows, neutral)
    tried = _Tried(base, max_damage)
    try:
        for i, knobs in enumerate(combinations):
            part = tell.part(0.9 * i / len(combinations), 0.9 * (i + 1) / len(combinations))
            part(0.0, f"Trying {i + 1} of {len(combinations)}", best=tried.most_benefit)
            try:
                fitted = known.fit(model, seen, known.configure({**fixed, **knobs}, preset), seed=seed, progress=part)
            except (BadKnob, FitFailed) as error:  # one impossible combination is no reason to give up the others; it is told below
                tried.failures.append(f"{knobs}: {error}")
            else:
                results = measured(model, [(fitted.edit.scaled(dose),) for dose in doses], rows, neutral)
                tried.add(fitted, [Candidate(knobs, dose, result) for dose, result in zip(doses, results)])
        if tried.best is None:
            text = f"None of {len(combinations)} combinations could be fitted: {tried.failures[0]}"
            raise FitFailed(text, "Change the demonstrations or the knobs.")
        # Fitted again on the whole set, so that its report sees held-out rows; the same rows give the same edit.
        config = known.configure({**fixed, **tried.ranked[0].values}, preset)
        return tried.choice(known.fit(model, demonstrations, config, seed=seed, progress=tell.part(0.9, 1.0)))
    except Cancelled as cancelled:
        if tried.best is None:
            raise
        header = replace(tried.best.edit.header, data=demonstrations.fingerprint)
        raise Cancelled(tried.choice(replace(tried.best, edit=replace(tried.best.edit, header=header)))) from cancelled


class _Tried:
    """Candidates so far, with the fit of the best, and what could not be fitted."""

    def __init__(self, base: Measured, max_damage: float) -> None:
        self.base, self.max_damage = base, max_damage
        self.ranked: list[Candidate] = []
        self.failures: list[str] = []
        self.best: Fitted | None = None

    @property
    def most_benefit(self) -> float | None:
        """The largest benefit so far, within the limit or not."""
        return max((candidate.measured.benefit for candidate in self.ranked), default=None)

    def add(self, fitted: Fitted, candidates: Sequence[Candidate]) -> None:
        """Rank the candidates of one fit among the others."""
        self.ranked = _ranked([*self.ranked, *candidates], self.max_damage)
        if self.ranked[0].values is candidates[0].values:
            self.best = fitted

    def choice(self, final: Fitted) -> Choice:
        """The choice, with what is told of it in the report of the final fit."""
        best, limit = self.ranked[0], self.max_damage
        within = best.measured.damage <= limit
        told = _told(final, self.ranked, self.base, limit, within, self.failures)
        return Choice(told, best, self.base, tuple(self.ranked), limit, within)


def _combinations(space: Mapping[str, Sequence[Any]], fixed: Mapping[str, object]) -> list[dict[str, Any]]:
    """Every combination of the options of knobs that are not fixed."""
    free = {name: options for name, options in space.items() if name not in fixed}
    return [dict(zip(free, options)) for options in itertools.product(*free.values())]


def _ranked(found: Sequence[Candidate], max_damage: float) -> list[Candidate]:
    """Within the limit before beyond it; by benefit, near-ties by damage."""

    def key(item: Candidate) -> tuple[bool, float, float, float]:
        beyond = item.measured.damage > max_damage
        return (beyond, 0.0 if beyond else -round(item.measured.benefit / NEAR_TIE), item.measured.damage, item.dose)

    return sorted(found, key=key)


def _told(fitted: Fitted, ranked: Sequence[Candidate], base: Measured, max_damage: float, within: bool, failures: Sequence[str]) -> Fitted:
    best = ranked[0]
    knobs = "".join(f"{name.replace('_', ' ')} = {_plain(value)}, " for name, value in best.values.items())
    report = replace(fitted.report, tables={**fitted.report.tables, "choice": tuple(item.row() for item in ranked)})
    notices = [
        Notice(
            "note",
            f"{knobs}dose = {best.dose:g} were chosen among {len(ranked)} settings on {base.n} validation rows: P(good) "
            f"{base.benefit:.2f} → {best.measured.benefit:.2f}, KL {best.measured.damage:.3g} nats a token on neutral text "
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
