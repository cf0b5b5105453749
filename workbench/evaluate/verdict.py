"""What the first edit of an evaluation does, in words: benefit against the base and its placebo, then what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.evaluate.benefit import Benefit
from workbench.evaluate.metrics import Metric
from workbench.evaluate.side_effects import SideEffects
from workbench.numerics.intervals import Interval


@dataclass(frozen=True)
class Verdict:
    """The verdict in Markdown, and whether the edit beats its placebo."""

    text: str
    beats_placebo: bool

    @property
    def plain(self) -> str:
        """The words without Markdown."""
        return self.text.replace("**", "")


def verdict(benefit: Benefit, side_effects: SideEffects | None, edit: int, placebo: int | None) -> Verdict:
    """Judge the lane `edit` by the first metric against lane 0 and the lane `placebo` (None: there is none)."""
    if not benefit.metrics:
        return Verdict("Nothing on this set could be scored.", False)
    metric = benefit.metrics[0]
    rows = f"{benefit.n:,} {'row' if benefit.n == 1 else 'rows'} of split {benefit.split}"
    text = f"**{_short(metric.values[edit])}** with the edit, **{_short(metric.values[0])}** without: {metric.title}, {rows}."
    text += f" {_whether(metric, edit)}"
    if placebo is not None:
        text += f" A random edit of equal size gives {_short(metric.values[placebo])}."
    text += _cost(side_effects, edit) + _answers(benefit, edit) + _kept(side_effects, edit)
    return Verdict(text, placebo is not None and _beats(metric, edit, placebo))


def _whether(metric: Metric, edit: int) -> str:
    change = metric.changes[edit]
    if change is None:
        return "No edit was measured."
    if change.withheld:
        return f"Whether the change is beyond chance cannot be told: {change.withheld}."
    rises, falls = change.low > 0, change.high < 0
    if not (rises or falls):
        return "The change is within chance."
    if metric.better == "neither":
        return "The change is beyond chance."
    is_better = rises if metric.better == "higher" else falls
    return "It does what was asked, beyond chance." if is_better else "It does the **opposite** of what was asked, beyond chance."


def _beats(metric: Metric, edit: int, placebo: int) -> bool:
    """Whether the edit's interval lies wholly on the wanted side of its placebo's estimate."""
    mine, other = metric.values[edit], metric.values[placebo].estimate
    return mine.high < other if metric.better == "lower" else mine.low > other


def _cost(side: SideEffects | None, edit: int) -> str:
    moved = next((metric for metric in side.metrics if metric.name == "kl_nats"), None) if side else None
    return "" if moved is None else f" On neutral text it moves the model by {moved.values[edit].estimate:.3g} {moved.unit}."


def _answers(benefit: Benefit, edit: int) -> str:
    """How likely a true answer is among everything that could be said."""
    given = next((metric for metric in benefit.metrics if metric.name == "p_answer"), None)
    if given is None:
        return ""
    return f" A true answer gets {given.values[edit].estimate:.3g} of all probability, {given.values[0].estimate:.3g} without."


def _kept(side: SideEffects | None, edit: int) -> str:
    """What else the model still knows."""
    kept = [metric for metric in side.metrics if any(metric.name.startswith(f"{name}_") for name in side.capability)] if side else []
    told = [f" {m.title}: {_short(m.values[edit])} with it, {_short(m.values[0])} without, {m.n} rows." for m in kept]
    return "".join(told)


def _short(value: Interval) -> str:
    return f"{value.estimate:.2f}" + ("" if value.withheld else f" [{value.low:.2f}, {value.high:.2f}]")
