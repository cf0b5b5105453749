"""What the first edit of an evaluation does, in words: the gain weighed against the base *and* a placebo of its size, then what it costs.

Ref: docs/methods/shared.md §9.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.evaluate.benefit import Benefit
from workbench.evaluate.metrics import HARDLY_MOVES, Metric
from workbench.evaluate.moved import shares_moved
from workbench.evaluate.side_effects import SideEffects

VerdictKind = Literal["does it", "no more than noise", "does nothing", "does harm", "changes it", "not told"]
_FITTED: tuple[VerdictKind, str] = ("not told", "These are rows for fitting, so they cannot show what it does to others.")


@dataclass(frozen=True)
class Verdict:
    """The verdict: its kind, one sentence that a person can repeat, and the numbers behind it in Markdown."""

    kind: VerdictKind
    sentence: str
    detail: str

    @property
    def text(self) -> str:
        """Both, in Markdown."""
        return f"{self.sentence} {self.detail}".strip()

    @property
    def plain(self) -> str:
        """The words without Markdown."""
        return self.text.replace("**", "")

    @property
    def beats_placebo(self) -> bool:
        """Whether the edit does more than a random one of its size, beyond chance."""
        return self.kind == "does it"


def verdict(benefit: Benefit, side_effects: SideEffects | None, edit: int, placebo: int | None, shuffled: int | None = None) -> Verdict:
    """Judge the lane `edit` by the first metric, in paired tests against lane 0 and against the lane `placebo` (None: there is none).

    does it: better than the base and than the placebo, each beyond chance. no more than noise: better than the base, but not than the
    placebo; this is also said where no placebo was measured. does harm: worse than the base beyond chance, or no numbers any more. does
    nothing: neither. Scores that are neither good nor bad only change. Rows that are for fitting tell nothing about others.

    `shuffled` is the lane of a fit on shuffled sides, which is told beside the placebo.
    """
    if not benefit.metrics:
        return Verdict("not told", "Nothing on this set could be scored.", "")
    metric = benefit.metrics[0]
    if edit == 0:
        return Verdict("not told", "No edit was measured.", _numbers(benefit, metric, edit, placebo) + _told_of_rows(benefit))
    every = (*benefit.metrics, *(side_effects.metrics if side_effects else ()))
    if any(not np.isfinite(one.per_item[0]).all() for one in every):
        what = "Some probabilities of the unedited model are no numbers, so nothing can be said of the edit."
        return Verdict("not told", what, f"Load it in float32.{_told_of_rows(benefit)}")
    if any(not np.isfinite(one.per_item[edit]).all() for one in every):
        detail = f"Lower the dose.{_told_of_rows(benefit)}"
        return Verdict("does harm", "**It breaks the model**: some of its probabilities are no numbers.", detail)
    kind, reason = judged(metric, edit, placebo) if benefit.split != "fit" else _FITTED
    if kind == "no more than noise" and _is_prompt(benefit, edit):
        kind, reason = "changes it", "**It moves the right way**, beyond chance; a prompt has no noise of its size to be weighed against."
    detail = (
        _numbers(benefit, metric, edit, placebo)
        + _beside(metric, edit, shuffled)
        + _cost(side_effects, edit)
        + _answers(benefit, edit)
        + _kept(side_effects, edit)
        + _harmed(benefit, edit)
        + _told_of_rows(benefit)
    )
    return Verdict(kind, f"{_counted(metric, edit, placebo)} {reason}{_identity(kind, side_effects, edit)}", detail)


def _is_prompt(benefit: Benefit, lane: int) -> bool:
    return benefit.lanes[lane].prompting is not None and not benefit.lanes[lane].edit_ids


def _beside(metric: Metric, edit: int, shuffled: int | None) -> str:
    """What the same method gives when texts and sides are unlinked: a fit that does as well learned something else."""
    if shuffled is None:
        return ""
    ahead = metric.between(edit, shuffled)
    wanted = 1 if metric.better == "higher" else -1
    text = f" Fitted on shuffled sides it gives {_value(metric, shuffled)}"
    if ahead.sign == wanted or ahead.withheld or metric.better == "neither":
        return f"{text}."
    return f"{text}: **as much, within chance**." if not ahead.sign else f"{text}: **more than the edit**."


def _harmed(benefit: Benefit, edit: int) -> str:
    found = shares_moved(benefit, edit)
    return f" {found.sentence}" if found else ""


def _told_of_rows(benefit: Benefit) -> str:
    """What is to be known of the rows; that they are for fitting is the verdict."""
    return f" {benefit.why}" if benefit.why and benefit.split != "fit" else ""


def judged(metric: Metric, edit: int, placebo: int | None) -> tuple[VerdictKind, str]:
    """The kind of a verdict on one metric and its reason in Markdown; what is told beside it, and rows for fitting, are `verdict`'s."""
    change = metric.between(edit, 0)
    is_still = metric.moved(edit) == (0, 0)
    if change.withheld and not is_still:
        return "not told", f"Whether that is more than chance cannot be told: {change.withheld}."
    if is_still or not change.excludes_zero:
        return "does nothing", "**It does nothing** that these rows could show."
    if metric.better == "neither":
        return "changes it", "**It changes this**, beyond chance."
    wanted = 1 if metric.better == "higher" else -1
    if change.sign != wanted:
        return "does harm", "**It does the opposite** of what was asked, beyond chance."
    if placebo is None:
        return "no more than noise", "It moves the right way, beyond chance; **whether noise of that size would too** was not measured."
    ahead = metric.between(edit, placebo)
    if ahead.sign == wanted:
        return "does it", "**It does what was asked**, beyond chance and beyond noise of that size."
    if ahead.withheld:
        return (
            "not told",
            f"It moves the right way, beyond chance; **whether noise of that size would too** cannot be told: {ahead.withheld}.",
        )
    return "no more than noise", "**It does no more than noise of that size**: a random edit moves as much within chance."


def _counted(metric: Metric, edit: int, placebo: int | None) -> str:
    """In rows, since they can be imagined: how many moved the right way and back, and how many a random edit moves."""
    better, worse = metric.moved(edit)
    if metric.better == "neither":
        return f"{better} of {metric.n} rows rise and {worse} fall."
    turned, back = ("turn right", "turn wrong") if metric.is_share else ("get better", "get worse")
    told = f"{better} of {metric.n} rows {turned} and {worse} {back}"
    if placebo is None:
        return f"{told}."
    by_noise = metric.moved(placebo)
    return f"{told}; noise of that size: {by_noise[0]} and {by_noise[1]}."


def _identity(kind: VerdictKind, side: SideEffects | None, edit: int) -> str:
    moved = [metric.values[edit].estimate for name in ("kl_nats", "own_kl_nats") if (metric := _named(side, name)) is not None]
    if kind == "does it" or not moved or max(moved) >= HARDLY_MOVES:
        return ""
    return " It is near the identity: it hardly moves the model at all."


def _numbers(benefit: Benefit, metric: Metric, edit: int, placebo: int | None) -> str:
    of = f" of {benefit.n:,}" if metric.n < benefit.n else ""
    rows = f"{metric.n:,}{of} {'row' if benefit.n == 1 else 'rows'} of split {benefit.split}"
    rows += f" (drawn from {benefit.n_of:,})" if benefit.n_of else ""
    what = "the prompt" if _is_prompt(benefit, edit) else "the edit"
    text = f"{metric.title}: **{_value(metric, edit)}** with {what}, **{_value(metric, 0)}** without, {rows}."
    return text if placebo is None else f"{text} A random edit of equal size gives {_value(metric, placebo)}."


def _value(metric: Metric, lane: int) -> str:
    return metric.values[lane].told(".2f")


def _cost(side: SideEffects | None, edit: int) -> str:
    text, own, tail = (_named(side, name) for name in ("kl_nats", "own_kl_nats", "own_kl_p95_nats"))
    told = "" if text is None else f" On neutral text it moves the model by {text.values[edit].words} {text.unit} ({text.n} texts)."
    if own is None or tail is None:
        return told
    most = f"by at most {tail.values[edit].words} at nineteen tokens in twenty"
    return f"{told} On the model's own answers by {own.values[edit].words}, {most} ({tail.n} answers)."


def _named(side: SideEffects | None, name: str) -> Metric | None:
    return next((metric for metric in side.metrics if metric.name == name), None) if side else None


def _answers(benefit: Benefit, edit: int) -> str:
    """How likely a true answer is among everything that could be said."""
    given = next((metric for metric in benefit.metrics if metric.name == "p_answer"), None)
    if given is None:
        return ""
    return f" A true answer gets {given.values[edit].words} of all probability, {given.values[0].words} without."


def _kept(side: SideEffects | None, edit: int) -> str:
    """What else the model still knows."""
    names = [f"{name.replace(' ', '_')}_" for name in side.capability] if side else []
    kept = [metric for metric in side.metrics if metric.name.startswith(tuple(names))] if side else []
    told = [f" {m.title}: {_value(m, edit)} with it, {_value(m, 0)} without, {m.n} rows." for m in kept]
    return "".join(told)
