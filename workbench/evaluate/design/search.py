"""Design search: which method, where, read how, how much of it? Gain against damage on validation rows, then test rows once.

A multi-objective search over a finite pool (`search.pool`), with random draws beside it as its control. Rows of split `test` are not read
before all trials are measured. Ref: docs/methods/shared.md §9.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadKnob
from workbench.evaluate.design.bench import MOST_DECADES, DesignBench, DesignTrial, Stage
from workbench.evaluate.design.record import REFERENCE, DesignSearch
from workbench.evaluate.design.space import Space, fast_methods, space_of
from workbench.evaluate.design.winners import judged_once
from workbench.methods.registry import get
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress, silent
from workbench.search.pool import Pool

Keep = Callable[[Sequence[DesignTrial]], None]
_SEARCHING = 0.93
"""Share of the whole that trials are told as; the rest is for winners."""


def design_search(
    model: LanguageModel,
    demonstrations: Demonstrations,
    methods: Sequence[str] = (),
    neutral: Sequence[str] = (),
    *,
    trials: int = 60,
    control: bool = True,
    seed: int = 0,
    known: Sequence[DesignTrial] = (),
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> DesignSearch:
    """Search the designs of some methods, and measure the best on test rows.

    Args:
        methods: names; none: all that can run here and whose fits take a second or so.
        neutral: held-out texts on which the damage of the winners is told.
        trials: how many the search has. control: whether as many are drawn at random beside it; the first ones are the same.
        known: trials of a search of these settings that was stopped, in their order; it goes on from there.
        keep: called with all trials whenever one more is measured.

    Raises:
        BadKnob: fewer than one trial. Obstructed: no method can run here. NotEnoughData: validation rows with both answers have fewer than
        5 prompts. UnknownMethod. Others: as `Method.fit`.
        Cancelled: with the `DesignSearch` so far, if there is a trial; its winners are not measured.
    """
    if trials < 1:
        raise BadKnob(f"{trials} trials.", "Give at least 1; 60 is what a search takes to leave random draws behind.")
    names = tuple(dict.fromkeys(methods)) or fast_methods(model, demonstrations)
    for name in names:
        get(name).require(model, demonstrations)
    space, tell = space_of(model, names), progress or silent()
    with memo.remembering(space.sites):
        tell(0.0, "Reading the unedited model")
        bench = DesignBench(model, demonstrations, seed)
        costs = tuple((get(name).title, get(name).cost) for name in names if get(name).cost)
        start = DesignSearch(
            model.info.name, demonstrations.name, names, seed, len(space.designs), trials, (), len(bench.base), bench.n_tokens,
            bench.ground.source, costs=costs,
        )  # fmt: skip
        run = _Run(
            bench,
            space,
            start,
            Pool(space.features, space.kinds, space.doses, REFERENCE, MOST_DECADES, seed),
            control,
            known,
            keep or _nowhere,
        )
        try:
            run.go(tell.part(0.0, _SEARCHING))
            found = judged_once(bench, run.found, demonstrations, neutral, tell.part(_SEARCHING, 1.0))
        except Cancelled as cancelled:
            raise Cancelled(run.found if run.found.trials else None) from cancelled
    tell(1.0, "Done", found=found)
    return found


def _nowhere(_: Sequence[DesignTrial]) -> None:
    """Keeps nothing."""


class _Run:
    """Trials so far and what comes next."""

    def __init__(
        self, bench: DesignBench, space: Space, start: DesignSearch, pool: Pool, control: bool, known: Sequence[DesignTrial], keep: Keep
    ) -> None:  # fmt: skip
        self._bench, self._space, self._pool, self._keep = bench, space, pool, keep
        self._measured = {one.design.key: one for one in known}
        self._places = {one.key: at for at, one in enumerate(space.designs)}
        self._n = min(start.n_asked, len(space.designs))
        self._draws = pool.draws() if control else []
        self.found = start

    def go(self, tell: Progress) -> None:
        """Measure until all that were asked for are; what is known already is taken as it was."""
        searched: list[int] = []
        while len(searched) < self._n:
            values = np.array([self.found.trials[at].seen for at in self.found.searched]).reshape(-1, 2)
            for place in self._pool.ask(searched, values)[: self._n - len(searched)]:
                self._add(place, "drawn" if len(searched) < self._pool.n_drawn else "search", tell)
                searched.append(place)
                if len(searched) > self._pool.n_drawn and self._draws:
                    self._add(self._draws[len(searched) - 1], "control", tell)

    def _add(self, place: int, stage: Stage, tell: Progress) -> None:
        design, at = self._space.designs[place], len(self.found.trials)
        n = self._n + (max(0, self._n - self._pool.n_drawn) if self._draws else 0)
        part = tell.part(at / n, (at + 1) / n)
        part(0.0, f"Trial {at + 1} of {n}: {design.label}", found=self.found)
        one = self._measured.get(design.key)
        is_new = one is None
        one = self._bench.trial(design, stage, part) if one is None else replace(one, stage=stage)
        self._measured[design.key] = one
        self.found = replace(self.found, trials=(*self.found.trials, one))
        if is_new:
            self._keep(tuple(self._measured.values()))
        part(1.0, f"Trial {at + 1} of {n}: {design.label}", found=self.found)
