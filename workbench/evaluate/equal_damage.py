"""Edits at equal damage: each at the dose at which it moves the model's most moved tokens as far as is allowed, prompts as they are.

A method that gains more may merely have been turned up more. Here every edit, every random edit of its shape and every fit on shuffled
sides stands at its own dose, the one whose damage (KL on neutral text, 95th percentile of tokens) comes to one limit; what cannot reach it
stands at its strongest. Doses are found on every other neutral text, damage is shown on those between. Ref: docs/methods/shared.md §9.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.edits.lane import HIGHEST_DOSE, Lane
from workbench.edits.placebo import rotated
from workbench.edits.prompting import Prompting
from workbench.errors import BadKnob, NotEnoughData
from workbench.evaluate.benefit import benefit
from workbench.evaluate.metrics import Metric
from workbench.evaluate.side_effects import side_effects
from workbench.evaluate.verdict import judged
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, paired_share_interval
from workbench.progress import Progress, silent

TAIL_NATS = 0.1
CLOSE = 0.03
"""How far below the limit, in shares of it, a tail may end."""
_GRID = tuple(HIGHEST_DOSE * 4.0**-power for power in (3, 2, 1, 0))
_ROUNDS = 10
_TAIL, _MEAN = "kl_p95_nats", "kl_nats"


@dataclass(frozen=True)
class EvenDose:
    """The dose of an edit at a limit of damage, and the tail there (nats a token, on the texts it was found on).

    `why` says why that is not the limit, if it is not: even the largest dose stays below, or the least step more jumps beyond.
    """

    dose: float
    tail_nats: float
    why: str = ""


def even_doses(
    model: LanguageModel, edits: Sequence[Edit], texts: Sequence[str], limit: float = TAIL_NATS, *, progress: Progress | None = None
) -> tuple[EvenDose, ...]:
    """The dose of each edit at which its tail comes to `limit` from below, all searched side by side.

    Four doses by powers of four, then false position on the logarithms between the last within the limit before one beyond it, and that
    one: damage need not grow steadily, so a pass beyond a failure does not count. It ends within `CLOSE` of the limit, or after ten rounds.
    Where even the least dose of the grid is too much, smaller ones are tried; 0 if all ten are too much.

    Raises:
        BadKnob: the limit is not above 0. NotEnoughData: no neutral text. Others: as `engine.lanes`.
    """
    if not 0 < limit < float("inf"):
        raise BadKnob(f"A limit of {limit} nats a token.", "Give a number above 0, for example 0.1.")
    tell = progress or silent()
    tails = _tails(model, texts, [edit.dosed(dose) for edit in edits for dose in _GRID], tell.part(0.0, 0.4))
    ends = [_bracket(mine, limit) for mine in tails.reshape(len(edits), len(_GRID))]
    for step in range(_ROUNDS):
        left = [i for i, end in enumerate(ends) if end.is_open(limit)]
        if not left:
            break
        tried = [ends[i].between(limit) for i in left]
        part = tell.part(0.4 + 0.6 * step / _ROUNDS, 0.4 + 0.6 * (step + 1) / _ROUNDS)
        for i, dose, tail in zip(left, tried, _tails(model, texts, [edits[i].dosed(dose) for i, dose in zip(left, tried)], part)):
            ends[i] = replace(ends[i], low=dose, under=tail) if tail <= limit else replace(ends[i], high=dose, over=tail)
    tell(1.0, "Done")
    return tuple(EvenDose(end.low, end.under, end.why(limit)) for end in ends)


@dataclass(frozen=True)
class _Ends:
    """A dose within the limit and a higher one beyond it (the same where none is), each with its tail."""

    low: float
    under: float
    high: float
    over: float

    def is_open(self, limit: float) -> bool:
        return self.high > self.low and not (1 - CLOSE) * limit <= self.under <= limit

    def why(self, limit: float) -> str:
        if self.high == self.low:
            return "" if self.under >= (1 - CLOSE) * limit else "its strongest"
        return "jumps beyond" if self.is_open(limit) else ""

    def between(self, limit: float) -> float:
        """Where a power law through both ends comes to just below the limit, a tenth of the way from either end at least."""
        if not self.low:
            return self.high / 4
        aim, known = (1 - CLOSE / 2) * limit, 0 < self.under < self.over < math.inf
        share = math.log(aim / self.under) / math.log(self.over / self.under) if known else 0.5
        return self.low * (self.high / self.low) ** min(max(share, 0.1), 0.9)


def _bracket(tails: np.ndarray, limit: float) -> _Ends:
    beyond = next((k for k, tail in enumerate(tails) if not tail <= limit), len(_GRID))
    low, under = (_GRID[beyond - 1], float(tails[beyond - 1])) if beyond else (0.0, 0.0)
    return _Ends(low, under, _GRID[beyond], float(tails[beyond])) if beyond < len(_GRID) else _Ends(low, under, low, under)


def _tails(model: LanguageModel, texts: Sequence[str], edits: Sequence[Edit], tell: Progress) -> np.ndarray:
    found = side_effects(model, texts, [Lane((edit,)) for edit in edits], n_generations=0, progress=tell).metric(_TAIL)
    return np.array([value.estimate for value in found.values[1:]])


@dataclass(frozen=True)
class AtLimit:
    """What an edit is weighed against, at a dose of its own: its score, by how much the edit is ahead (paired), `why` as in `EvenDose`."""

    gain: Interval
    ahead: Interval
    why: str = ""


@dataclass(frozen=True)
class Standing:
    """One row: a lane at its dose, what it gains and what it costs, and its controls.

    `gain` is the first score; `change` is paired, against the base; `why` as in `EvenDose`. `placebo` is the mean over random edits,
    `shuffled` a fit on shuffled sides (`why_not` says why there is none). `shows` says what the paired tests say: of an edit as a verdict
    does, of a prompt how it stands to the best edit.
    """

    label: LaneLabel
    dose: float | None
    gain: Interval
    change: Interval | None
    tail: Interval
    mean: Interval
    why: str = ""
    placebo: AtLimit | None = None
    shuffled: AtLimit | None = None
    why_not: str = ""
    shows: str = ""

    @property
    def is_edit(self) -> bool:
        """Whether it is an edit alone."""
        return bool(self.label.edit_ids) and self.label.prompting is None


@dataclass(frozen=True)
class EqualDamage:
    """Lanes at equal damage on the rows of a split: the base first, edits by what they gain, then what was said before prompts.

    `title`, `unit` and `better` are the first score's; `refused` holds methods that could not be fitted, with the reason.
    """

    model: str
    data: str
    split: str
    limit: float
    title: str
    unit: str
    better: str
    standings: tuple[Standing, ...]
    why: str = ""
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown: which edits do what was asked at this damage, and whether a prompt does more."""
        edits = [one for one in self.standings if one.is_edit]
        doing = [f"{one.label.label} ({_cell(one.gain)})" for one in edits if one.shows == "does it"]
        controls = "random edits" + (" and fits on shuffled sides" if any(one.shuffled is not None for one in edits) else "")
        does = "does" if len(doing) < 2 else "do"
        told = f"Of {len(edits)} edits at this damage **{len(doing) or 'none'}** {does} what was asked beyond chance and beyond {controls}"
        told += (f": {', '.join(doing)}" if doing else "") + f"; {_cell(self.standings[0].gain)} without an edit."
        prompts = [one for one in self.standings if one.shows and not one.label.edit_ids]
        return told + "".join(f" {one.label.label}, with no edit, {one.shows}: {_cell(one.gain)}." for one in prompts)

    @property
    def told(self) -> tuple[str, ...]:
        """What stands beside the table in words: rows left out, methods that could not be fitted, controls that could not, notes."""
        mixed = [f"{one.label.label} has no fit on shuffled sides: {one.why_not}" for one in self.standings if one.why_not]
        refused = [f"{name} was not fitted: {why}" for name, why in self.refused]
        return (*filter(None, [self.why]), *refused, *mixed, *self.notes)

    def rows(self) -> list[dict[str, Any]]:
        """One table row a lane; bounds that are withheld are None."""

        def bounds(name: str, value: Interval | None) -> dict[str, Any]:
            low, high = (None, None) if value is None else value.bounds
            return {name: value and value.estimate, f"{name}_low": low, f"{name}_high": high}

        found: list[dict[str, Any]] = []
        for one in self.standings:
            row: dict[str, Any] = {"lane": one.label.label, "edit": "+".join(one.label.edit_ids), "dose": one.dose, "why": one.why}
            row |= bounds("gain", one.gain) | bounds("change", one.change)
            for name, control in (("placebo", one.placebo), ("shuffled", one.shuffled)):
                row |= bounds(name, control and control.gain) | bounds(f"ahead_of_{name}", control and control.ahead)
                row[f"{name}_why"] = control.why if control else ""
            row |= {"tail_nats": one.tail.estimate, "mean_nats": one.mean.estimate, "n": one.gain.n}
            found.append(row | {"why_not": one.why_not, "shows": one.shows})
        return found

    def table(self) -> list[dict[str, Any]]:
        """The same for reading: a value with its interval a cell."""
        return [
            {
                "lane": one.label.label,
                "dose": "" if one.dose is None else _with(f"{one.dose:.3g}", one.why),
                self.title: _cell(one.gain),
                "random edits": _with(_cell(one.placebo.gain), one.placebo.why) if one.placebo else "",
                "beyond them": _cell(one.placebo.ahead, "+.2f") if one.placebo else "",
                "shuffled sides": _with(_cell(one.shuffled.gain), one.shuffled.why) if one.shuffled else "not fitted" * bool(one.why_not),
                "KL, 95th percentile": f"{one.tail.estimate:.2g}",
                "KL, mean": f"{one.mean.estimate:.2g}",
                "what it shows": one.shows,
                "n": one.gain.n,
            }
            for one in self.standings
        ]


@dataclass(frozen=True)
class Contestant:
    """An edit, and its fit on shuffled sides, or why there is none (empty: nobody asked)."""

    edit: Edit
    shuffled: Edit | str = ""


def equal_damage(
    model: LanguageModel,
    demonstrations: Demonstrations,
    contestants: Sequence[Contestant],
    neutral: Sequence[str],
    *,
    said: Sequence[Prompting] = (),
    limit: float = TAIL_NATS,
    split: Split | None = "test",
    n_placebos: int = 2,
    progress: Progress | None = None,
) -> EqualDamage:
    """Put edits at equal damage and score them on a split, beside prompts; behind the first of `said` each edit stands once more.

    Raises:
        NotEnoughData: fewer than two neutral texts, or nothing in the split can be scored. Others: as `even_doses`, `benefit`.
    """
    tell = progress or silent()
    if len(neutral) < 2:
        raise NotEnoughData(
            f"Got {len(neutral)} neutral texts; doses are found on one half and damage is shown on the other.", "Give more."
        )
    groups = [
        [one.edit, *(rotated(one.edit, seed) for seed in range(n_placebos)), *([one.shuffled] if isinstance(one.shuffled, Edit) else [])]
        for one in contestants
    ]
    flat = [edit for group in groups for edit in group]
    doses = even_doses(model, flat, neutral[::2], limit, progress=tell.part(0.0, 0.4))
    placed = [edit.dosed(even.dose) for edit, even in zip(flat, doses)]
    starts = np.cumsum([0, *map(len, groups)])[:-1].tolist()
    own = [Lane((placed[start],)) for start in starts]
    behind = [Lane((placed[start],), said[0]) for start in starts] if said else []
    shown = [*own, *behind, *(Lane((), one) for one in said)]
    controls = [Lane((placed[start + k],)) for start, group in zip(starts, groups) for k in range(1, len(group))]
    gain = benefit(model, demonstrations, [*shown, *controls], split=split, progress=tell.part(0.4, 0.8))
    cost = side_effects(model, neutral[1::2], shown, n_generations=0, progress=tell.part(0.8, 1.0))
    if not gain.metrics:
        raise NotEnoughData(f"Nothing on {demonstrations.name} could be scored.", "Give rows with answers or labels in that split.")
    score, labels = gain.metrics[0], lane_labels([Lane(), *shown])
    found = [_standing(score, cost.metrics, lane, labels[lane]) for lane in range(len(shown) + 1)]
    at = len(shown) + 1  # the first lane of the controls, which come group by group
    for lane, (start, group, one) in enumerate(zip(starts, groups, contestants), 1):
        mine = doses[start : start + len(group)]
        found[lane] = _beside(found[lane], score, gain.split, lane, range(at, at + len(group) - 1), mine[1:], n_placebos)
        found[lane] = replace(found[lane], why_not=one.shuffled if isinstance(one.shuffled, str) else "")
        for each in (lane, *([lane + len(own)] if said else [])):
            found[each] = replace(found[each], dose=mine[0].dose, why=mine[0].why)
        at += len(group) - 1
    order = sorted(range(1, len(own) + 1), key=lambda lane: _rank(score, lane))
    prompts = range(len(own) + len(behind) + 1, len(shown) + 1)
    for lane in prompts:
        found[lane] = replace(found[lane], shows=_against(score, lane, order[0]))
    whole = [0, *order, *(lane + len(own) for lane in order if said), *prompts]
    tell(1.0, "Done")
    return EqualDamage(
        model.info.name, demonstrations.name, split or "all", limit, score.title, score.unit, score.better,
        tuple(found[lane] for lane in whole), gain.why, notes=_room(score),
    )  # fmt: skip


def _room(score: Metric) -> tuple[str, ...]:
    """Where even a lane without a mistake could not be told from the untouched model, that is said."""
    if not score.is_share or score.better == "neither":
        return ()
    right = score.per_item[0] == (1.0 if score.better == "higher" else 0.0)
    if paired_share_interval(right, np.ones_like(right)).excludes_zero:
        return ()
    best = f"The untouched model has {right.sum()} of {len(right)} right: even a lane without a mistake would gain no more than chance"
    return (f"{best}. On these rows this score cannot show a gain; on a harder set, or on more rows, it can.",)


def _rank(score: Metric, lane: int) -> float:
    value = score.values[lane].estimate
    return value if score.better == "lower" else -value


def _standing(score: Metric, cost: Sequence[Metric], lane: int, label: LaneLabel) -> Standing:
    known = {one.name: one.values[lane] for one in cost}
    return Standing(label, None, score.values[lane], score.changes[lane], known[_TAIL], known[_MEAN])


def _beside(one: Standing, score: Metric, split: str, lane: int, controls: range, doses: Sequence[EvenDose], n_placebos: int) -> Standing:
    """What a lane shows beside its controls, random edits first, in the paired tests of a verdict."""
    placebos, mixed = list(controls[:n_placebos]), list(controls[n_placebos:])
    pooled = score.pooled([[0], [lane], placebos] if placebos else [[0], [lane]])
    kind = judged(pooled, 1, 2 if placebos else None)[0] if split != "fit" else "not told"
    if placebos:
        why = ", ".join(dict.fromkeys(each.why for each in doses[:n_placebos] if each.why))
        one = replace(one, placebo=AtLimit(pooled.values[2], pooled.between(1, 2), why))
    if mixed:
        one = replace(one, shuffled=AtLimit(score.values[mixed[0]], score.between(lane, mixed[0]), doses[-1].why))
        if kind == "does it" and score.between(lane, mixed[0]).sign != (1 if score.better == "higher" else -1):
            kind = "no more than shuffled sides"
    return replace(one, shows=kind)


def _against(score: Metric, prompt: int, best: int) -> str:
    """How a prompt stands to the edit that gains most, which was picked on the same rows."""
    ahead, wanted = score.between(prompt, best), 1 if score.better == "higher" else -1
    if score.better == "neither" or ahead.withheld:
        return "stands beside them"
    return {wanted: "does more than the best of them", 0: "does as much as the best of them, within chance"}.get(
        ahead.sign, "does less than the best of them"
    )


def _cell(value: Interval | None, form: str = ".2f") -> str:
    return "" if value is None else value.told(form)


def _with(told: str, why: str) -> str:
    return f"{told}, {why}" if why else told
