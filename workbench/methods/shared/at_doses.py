"""One fit at several doses: which stay within a limit on damage, and what those gain. Ref: docs/methods/shared.md §6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.methods.shared.ground import Ground
from workbench.methods.shared.validation import Measured, measured, neutral_kl
from workbench.models.base import LanguageModel


@dataclass
class AtDoses:
    """Doses of one edit, whose gain is measured within the limit alone.

    Damage grows with the dose either way from 0, and one way says nothing of the other.
    """

    model: LanguageModel
    edit: Edit
    doses: Sequence[float]
    rows: Demonstrations
    neutral: Ground
    max_damage: float
    _damage: dict[float, float] = field(default_factory=dict[float, float], init=False)
    _gains: dict[float, Measured] = field(default_factory=dict[float, Measured], init=False)
    _within: list[list[float]] = field(default_factory=list[list[float]], init=False)

    def largest(self) -> None:
        """Measure the largest dose within the limit, either way; it is found by halving, on neutral text alone."""
        ways = ([dose for dose in self.doses if dose >= 0], [dose for dose in self.doses if dose < 0])
        self._within = [self._halved(sorted(way, key=abs)) for way in ways]
        self._gain([way[-1] for way in self._within if way])

    def others(self) -> None:
        """Measure the smaller doses as well. What lies beyond one that is beyond the limit does not count, though it passes."""
        self._look([dose for way in self._within for dose in way])
        self._within = [way[: next((i for i, dose in enumerate(way) if not self._passes(dose)), len(way))] for way in self._within]
        self._gain([dose for way in self._within for dose in way])

    @property
    def n_left(self) -> int:
        """How many doses within the limit are not measured."""
        return sum(dose not in self._gains for way in self._within for dose in way)

    @property
    def most_gain(self) -> float:
        """The largest margin that was measured, nats a token; minus infinity where no dose is within the limit."""
        return max((one.margin for one in self._gains.values()), default=-math.inf)

    def results(self) -> dict[float, Measured]:
        """Doses that were measured, and those beyond the limit: of these damage alone, infinite where a smaller dose is beyond."""
        inside, found = [dose for way in self._within for dose in way], dict[float, Measured]()
        for dose in self.doses:
            if dose in self._gains and dose in inside:
                found[dose] = replace(self._gains[dose], damage=self._damage[dose])
            elif dose not in inside:
                known = dose in self._damage and not self._passes(dose)
                found[dose] = Measured(math.nan, math.nan, self._damage[dose] if known else math.inf, len(self.rows))
        return found

    def _halved(self, order: Sequence[float]) -> list[float]:
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            self._look([order[middle]])
            low, high = (middle + 1, high) if self._passes(order[middle]) else (low, middle)
        return list(order[:low])

    def _passes(self, dose: float) -> bool:
        return self._damage[dose] <= self.max_damage  # a damage that is no number does not

    def _look(self, doses: Sequence[float]) -> None:
        new = [dose for dose in doses if dose not in self._damage]
        if new:
            self._damage.update(zip(new, neutral_kl(self.model, [(self.edit.scaled(dose),) for dose in new], self.neutral).tolist()))

    def _gain(self, doses: Sequence[float]) -> None:
        new = [dose for dose in doses if dose not in self._gains]
        if new:
            self._gains.update(zip(new, measured(self.model, [(self.edit.scaled(dose),) for dose in new], self.rows, ())))
