"""The canonical-examples protocol: any method, judged by its success at equal degradation of neutral text.

1. On the validation pair, draw configurations at random; a run yields a trajectory of steps (epochs, or doses for methods without epochs).
2. A step is in the ball of ε when ρ = ℓ_G(step)/ℓ_G(0) ≤ 1 + ε. Per ε, the configuration whose last step in the ball succeeds most wins,
   and that step is the cap.
3. On the test pair, fit anew per seed with the winner; take the last step in the ball up to the cap. Report mean and standard error,
   and the same of that edit turned into a random direction.

Step 0 is the unedited model and always in the ball, so a hopeless method reports a change of 0.
Ref: docs/methods/senses.md §9; for doses §9.3: there a step counts only when all smaller doses are in the ball too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import FitFailed, NotEnoughData
from workbench.evaluate.protocol.control import random_direction
from workbench.evaluate.protocol.measure import CanonicalTask, canonical_task
from workbench.evaluate.protocol.rules import OURS, Rules
from workbench.evaluate.protocol.runs import ProtocolRun, random_config, run_of
from workbench.knobs import as_json
from workbench.methods import get
from workbench.methods.shared.canonical_examples import Chunk, canonical_neutral, neutral_chunks, shipped_neutral
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, paired_share_interval, share_interval
from workbench.progress import Progress, silent

EPSILONS = (1e-3, 1e-4, 1e-5)
# What follows a method's name in the rows of its control.
CONTROL = ", random direction"


@dataclass(frozen=True)
class CanonicalRecord:
    """One run at one ε. Losses in nats: hard negatives summed per item, rest and general per token; `rho` is ℓ_G ratio."""

    task: str
    method: str
    epsilon: float
    config: Mapping[str, Any]
    seed: int
    epoch: int
    success0: float
    success: float
    n: int
    interval: Interval
    change: Interval
    rho: float
    n_general_tokens: int
    hn0: float
    hn: float
    rest0: float
    rest: float
    tokens_trained: int
    wall_s: float

    def row(self) -> dict[str, Any]:
        """Return the record as one row of a table, of always the same columns."""
        flat = asdict(self)
        for name in ("interval", "change"):
            found: Interval = getattr(self, name)
            flat[name] = f"[{found.low:.3f}, {found.high:.3f}]"
        flat["config"] = ", ".join(
            f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.config.items()
        )
        return flat


@dataclass(frozen=True)
class CanonicalSummary:
    """Runs over seeds at one ε: means with standard error sd/√n (population sd, as published)."""

    task: str
    method: str
    epsilon: float
    records: tuple[CanonicalRecord, ...]
    not_fitted: tuple[str, ...] = ()
    """Drawn configurations that no edit could be fitted with, and why."""

    def mean(self, name: str) -> float:
        """Mean of a record's field over seeds."""
        return float(np.mean([getattr(record, name) for record in self.records]))

    @property
    def change(self) -> float:
        """Mean over seeds of success after minus before."""
        return float(np.mean([record.success - record.success0 for record in self.records]))

    @property
    def standard_error(self) -> float:
        """Standard error over seeds of the change."""
        return float(np.std([record.success - record.success0 for record in self.records]) / math.sqrt(len(self.records)))

    def row(self) -> dict[str, Any]:
        """Return the summary as one row of the table that compares methods."""
        return {
            "task": self.task, "method": self.method, "epsilon": self.epsilon, "seeds": len(self.records), "n": self.records[0].n,
            "success before": self.mean("success0"), "success after": self.mean("success"), "change": self.change,
            "change low": float(np.mean([record.change.low for record in self.records])),
            "change high": float(np.mean([record.change.high for record in self.records])),
            "standard error": self.standard_error, "general loss rise": self.mean("rho") - 1,
            "general tokens": self.records[0].n_general_tokens, "hard negatives rise": self.mean("hn") - self.mean("hn0"),
            "rest rise": self.mean("rest") - self.mean("rest0"), "not fitted": len(self.not_fitted),
        }  # fmt: skip


def winner(runs: Sequence[ProtocolRun], epsilon: float, rules: Rules = OURS) -> tuple[int, int]:
    """Return the run that succeeds most at the step that counts, and that step; ties go to the first run."""
    steps = [rules.step(run.rhos, run.successes, epsilon, "validation", None, run.by_dose) for run in runs]
    best = max(range(len(runs)), key=lambda i: (runs[i].steps[steps[i]].success, -i))
    return best, steps[best]


def general_chunks(
    model: LanguageModel, demonstrations: Demonstrations, length: int = 128, limit: int = 128, train_limit: int = 512
) -> tuple[list[Chunk], list[Chunk]]:
    """Return neutral chunks to train against (R) and, disjoint from them, to measure on (G): the set's own, else the shipped ones.

    Raises:
        NotEnoughData: there is no neutral text to measure the ball on.
    """
    source = demonstrations if canonical_neutral(demonstrations.split("test")) else shipped_neutral()
    train = canonical_neutral(source.split("fit"))
    apart = [text for text in canonical_neutral(source.split("test")) if text not in set(train)]
    general = neutral_chunks(model, apart, length, limit)
    if not general:
        raise NotEnoughData("There is no neutral text of split test to measure the ball on.", "Add rows of role general to split test.")
    return neutral_chunks(model, train, length, train_limit), general


def protocol(
    model: LanguageModel,
    demonstrations: Demonstrations,
    method: str,
    *,
    epsilons: Sequence[float] = EPSILONS,
    draws: int = 5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_general: int = 128,
    rules: Rules = OURS,
    control: bool = True,
    keep: Callable[[float, int, Edit], None] | None = None,
    progress: Progress | None = None,
) -> tuple[CanonicalSummary, ...]:
    """Run the protocol of one method on one canonical set; one summary an ε, then one an ε of its control.

    Args:
        model: the model; `senses` needs a Backpack.
        demonstrations: splits validation and test hold pairs of roles train, evaluation, hard_negatives with disjoint entities.
        method: any registered method that has no obstacle here.
        epsilons: degradation balls.
        draws: configurations tried on the validation pair; the first is the method's default.
        seeds: fits on the test pair.
        n_general: chunks of neutral text that the ball is measured on; up to 512 others hold the fits.
        rules: which step counts, which hard negatives are measured, and how answers are scored.
        control: also measure each reported edit turned into a random direction.
        keep: takes ε, seed and edit of each run that reports another step than the unedited model.

    Raises:
        NotEnoughData: a pair or the neutral text is missing. Obstructed: the method cannot run here. BadKnob: a rule that this model
        cannot follow. FitFailed: no drawn configuration could be fitted; where some could, the summaries tell the others.
    """
    tell, registered = progress or silent(), get(method)
    regularisation, general = general_chunks(model, demonstrations, limit=n_general)
    validation, test = (canonical_task(model, demonstrations, pair, rules) for pair in ("validation", "test"))
    configs = list(dict.fromkeys(random_config(registered, model, seed, rules) for seed in range(max(1, draws))))
    fit = lambda config, part: run_of(model, validation, registered, config, 0, regularisation, general, part)  # noqa: E731
    tried, fitted, failures = _tried(configs, fit, tell.part(0.0, 0.5))
    winners = {epsilon: winner(tried, epsilon, rules) for epsilon in epsilons}
    records: dict[tuple[float, bool], list[CanonicalRecord]] = {(epsilon, on): [] for epsilon in epsilons for on in (False, True)}
    wanted = sorted({run for run, _ in winners.values()})
    for i, (run, seed) in enumerate((run, seed) for run in wanted for seed in seeds):
        start, whole = time.perf_counter(), len(wanted) * len(seeds)
        part = tell.part(0.5 + 0.5 * i / whole, 0.5 + 0.5 * (i + 1) / whole)
        caps = {epsilon: step for epsilon, (winner, step) in winners.items() if winner == run}
        found = run_of(model, test, registered, fitted[run], seed, regularisation, general, part, rules, caps)
        wall = time.perf_counter() - start
        for epsilon, cap in caps.items():
            step = rules.step(found.rhos, found.successes, epsilon, "test", cap, found.by_dose)
            record = canonical_record(found, step, epsilon, seed, test.name, sum(map(len, general)) - len(general))
            records[epsilon, False].append(replace(record, wall_s=wall))
            if keep is not None and epsilon in found.kept:
                keep(epsilon, seed, found.kept[epsilon])
            if control:
                records[epsilon, True].append(_controlled(model, test, found, record, general))
    return tuple(
        CanonicalSummary(test.name, records[epsilon, on][0].method, epsilon, tuple(records[epsilon, on]), () if on else failures)
        for on in ((False, True) if control else (False,))
        for epsilon in epsilons
    )


def _tried(
    configs: Sequence[Any], run: Callable[[Any, Progress], ProtocolRun], progress: Progress
) -> tuple[list[ProtocolRun], list[Any], tuple[str, ...]]:
    """Run every configuration: the runs, their configurations, and why the others could not be fitted.

    Raises:
        FitFailed: none could be fitted.
    """
    runs: list[ProtocolRun] = []
    fitted: list[Any] = []
    failures: list[str] = []
    for i, config in enumerate(configs):
        try:
            runs.append(run(config, progress.part(i / len(configs), (i + 1) / len(configs))))
        except FitFailed as error:
            failures.append(f"{as_json(config)}: {error}")
            if len(failures) == len(configs):
                raise
        else:
            fitted.append(config)
    return runs, fitted, tuple(failures)


def _controlled(
    model: LanguageModel, task: CanonicalTask, run: ProtocolRun, record: CanonicalRecord, general: Sequence[Chunk]
) -> CanonicalRecord:
    """Make the record of the control of a record: its edit in a random direction, at most as large, in the same ball."""
    start, before = time.perf_counter(), run.steps[0]
    after, dose = before, 0.0
    if record.epsilon in run.kept:
        after, dose = random_direction(model, task, run.kept[record.epsilon], before, general, record.epsilon, record.seed)
    moved = replace(run, method=f"{run.method}{CONTROL}", steps=(before, after), doses=None)
    found = canonical_record(moved, 1, record.epsilon, record.seed, record.task, record.n_general_tokens)
    config = {**record.config, "dose": dose}
    return replace(found, epoch=record.epoch, config=config, tokens_trained=0, wall_s=time.perf_counter() - start)


def canonical_record(run: ProtocolRun, step: int, epsilon: float, seed: int, task: str, n_general_tokens: int) -> CanonicalRecord:
    """Make the record of a run at one step."""
    before, after = run.steps[0], run.steps[step]
    n = len(after.succeeded)
    return CanonicalRecord(
        task, run.method, epsilon, run.config, seed, step, before.success, after.success, n,
        share_interval(sum(after.succeeded), n), paired_share_interval(np.array(before.succeeded), np.array(after.succeeded)),
        run.rhos[step], n_general_tokens,
        before.hard_negatives, after.hard_negatives, before.rest, after.rest, run.tokens_trained * step, 0.0,
    )  # fmt: skip
