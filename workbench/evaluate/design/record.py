"""What a design search has found so far: trials, their front, and the designs that stood on test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.evaluate.design.bench import DesignTrial
from workbench.evaluate.verdict import VerdictKind
from workbench.methods.registry import Fitted
from workbench.numerics.intervals import Interval
from workbench.search.fronts import hypervolume, on_front

REFERENCE = (0.0, 0.0)
"""No gain, and a tail of `bench.MOST_TAIL`: a design that is not better in both covers nothing."""


@dataclass(frozen=True)
class Winner:
    """The design of most gain within a limit of damage, measured once on test rows and on neutral text that the search did not read.

    `trial` is its place among the trials. `gain` is paired against the unedited model, `ahead` against random edits of its size, whose own
    gain is `placebo`; nats a token. `kind` is a verdict's. `edit_id` names its edit, whose dose is the design's.
    """

    limit: float
    trial: int
    gain: Interval
    placebo: Interval
    ahead: Interval
    tail: Interval
    mean: Interval
    kind: VerdictKind
    edit_id: str


@dataclass(frozen=True)
class DesignSearch:
    """Trials in the order in which they were measured, out of `n_designs`; the search's and those of its random control.

    `n_asked` trials were asked for. `winners` is empty until all are measured; `why_none` says why it then is, or what else is to be known
    of them. `fits` are the winners', in their order; none in a search that was read from its record.
    """

    model: str
    data: str
    methods: tuple[str, ...]
    seed: int
    n_designs: int
    n_asked: int
    trials: tuple[DesignTrial, ...]
    n_prompts: int
    n_tokens: int
    ground: str
    winners: tuple[Winner, ...] = ()
    why_none: str = ""
    costs: tuple[tuple[str, str], ...] = ()
    is_whole: bool = False
    fits: tuple[Fitted, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def values(self) -> np.ndarray:
        """Gain and damage of every trial as the search sees them, both to be large: (trial, 2)."""
        return np.array([one.objectives for one in self.trials]).reshape(-1, 2)

    @cached_property
    def searched(self) -> tuple[int, ...]:
        """Places of the search's trials."""
        return tuple(at for at, one in enumerate(self.trials) if one.stage != "control")

    @cached_property
    def random(self) -> tuple[int, ...]:
        """Places of random draws: the first of the search, and its control's."""
        return tuple(at for at, one in enumerate(self.trials) if one.stage != "search")

    @cached_property
    def front(self) -> tuple[int, ...]:
        """Places of trials that no other one beats in gain and damage, from the least damage up; equal designs once."""
        first = {one.design.key: at for at, one in reversed(list(enumerate(self.trials)))}
        here = on_front(self.values)
        above = [at for at in first.values() if here[at] and self.values[at, 0] > REFERENCE[0]]
        return tuple(sorted(above, key=lambda at: self.trials[at].tail_nats))

    @cached_property
    def has_control(self) -> bool:
        """Whether random draws went beside the search."""
        return any(one.stage == "control" for one in self.trials)

    def covered(self, places: Sequence[int]) -> float:
        """What some trials' front covers, in nats a token times powers of ten of the tail."""
        return hypervolume(self.values[list(places)], REFERENCE)

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        n, failed = len({one.design.key for one in self.trials}), sum(bool(one.why) for one in self.trials)
        told = f"{n} of {self.n_designs:,} designs were measured on {self.n_prompts} validation prompts"
        told += f" ({failed} could not be fitted)" if failed else ""
        told += f"; **{len(self.front) or 'none'}** stand{'s' * (len(self.front) < 2)} on the front"
        told += ", better than the unedited model and beaten by no other in gain and damage."
        if self.has_control:
            at = min(len(self.searched), len(self.random))
            search, random = self.covered(self.searched[:at]), self.covered(self.random[:at])
            told += f" At {at} trials each the search covers {search:.3g}, random draws {random:.3g} nats × decades."
        for one in self.winners:
            told += f" Within {one.limit:g} nats: {self.trials[one.trial].design.label} gains {_signed(one.gain)}"
            told += f" on {one.gain.n} test prompts, random edits {_signed(one.placebo)}: **{one.kind}**."
        return f"{told} {self.why_none}".strip()

    def rows(self) -> list[dict[str, Any]]:
        """One table row a trial; None where there is no number."""
        found: list[dict[str, Any]] = []
        for at, one in enumerate(self.trials):
            low, high = one.gain.bounds
            row: dict[str, Any] = {"trial": at + 1, "stage": one.stage, "method": one.design.method, "dose": one.design.dose}
            row |= {"knobs": _knobs(one), "gain": None if one.why else one.gain.estimate, "gain_low": low, "gain_high": high}
            row |= {"n": one.gain.n, "tail_nats": None if one.why else one.tail_nats, "mean_nats": None if one.why else one.mean_nats}
            found.append(row | {"front": at in self.front, "why": one.why})
        return found

    def table(self) -> list[dict[str, Any]]:
        """The front for reading, from the least damage up."""
        return [
            {
                "trial": at + 1, "design": self.trials[at].design.label, "gain, nats a token": _signed(self.trials[at].gain),
                "KL, most moved twentieth": f"{self.trials[at].tail_nats:.2g}", "KL, mean": f"{self.trials[at].mean_nats:.2g}",
                "found by": {"drawn": "a draw", "search": "the search", "control": "its random control"}[self.trials[at].stage],
                "n": self.trials[at].gain.n,
            }
            for at in self.front
        ]  # fmt: skip

    def winner_rows(self) -> list[dict[str, Any]]:
        """The winners for reading: chosen on validation, measured once on test."""
        return [
            {
                "within, nats": f"{one.limit:g}", "design": self.trials[one.trial].design.label,
                "gain, validation": _signed(self.trials[one.trial].gain), "gain, test": _signed(one.gain),
                "random edits": _signed(one.placebo), "beyond them": _signed(one.ahead), "KL, most moved twentieth": one.tail.words,
                "KL, mean": one.mean.words, "what it shows": one.kind, "n": one.gain.n, "edit": one.edit_id,
            }
            for one in self.winners
        ]  # fmt: skip


def _knobs(one: DesignTrial) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in one.design.values.items()}


def _signed(value: Interval) -> str:
    return f"{value.estimate:+.3g}" + ("" if value.withheld else f" [{value.low:+.2g}, {value.high:+.2g}]")
