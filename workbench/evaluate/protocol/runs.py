"""Runs of the protocol: a configuration on one pair, measured step by step: the epochs of a method that has them, else doses of one fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.edits.base import Edit
from workbench.evaluate.protocol.measure import CanonicalTask, EditMeter, EngineMeter, StepMeasured
from workbench.evaluate.protocol.rules import OURS, Rules
from workbench.knobs import COMPAT, as_json, compat_of
from workbench.methods.registry import Method, Step, StepFunction
from workbench.methods.shared.canonical_examples import Chunk, canonical_items
from workbench.models.base import LanguageModel
from workbench.progress import Progress

LANES_AT_ONCE = 7


@dataclass(frozen=True)
class ProtocolRun:
    """A configuration on one pair: what was measured at each step, step 0 being the unedited model."""

    method: str
    config: Mapping[str, Any]
    steps: tuple[StepMeasured, ...]
    doses: tuple[float, ...] | None
    tokens_trained: int
    wall_s: float
    kept: Mapping[float, Edit] = field(default_factory=dict[float, Edit])

    @property
    def by_dose(self) -> bool:
        """Whether steps are doses of one edit, not epochs."""
        return self.doses is not None

    @property
    def rhos(self) -> tuple[float, ...]:
        """ℓ_G(step) / ℓ_G(0)."""
        return tuple(step.general / self.steps[0].general for step in self.steps)

    @property
    def successes(self) -> tuple[float, ...]:
        """Success rate at each step."""
        return tuple(step.success for step in self.steps)


class Keeper:
    """Keeps, at each ε, the edit of the step that counts so far, and says when no later step can count.

    Args:
        caps: ε → largest step that may count; empty keeps nothing and never stops.
    """

    def __init__(self, caps: Mapping[float, int], rules: Rules, pair: Split, unbroken: bool = False) -> None:
        self._caps, self._rules, self._unbroken = caps, rules, unbroken
        self._pair: Split = pair
        self.kept: dict[float, Edit] = {}

    def saw(self, steps: Sequence[StepMeasured], edit: Callable[[], Edit]) -> bool:
        """Note a step; return whether the run may stop."""
        now = len(steps) - 1
        rhos, successes = [step.general / steps[0].general for step in steps], [step.success for step in steps]
        for epsilon, cap in self._caps.items():
            if now and self._rules.step(rhos, successes, epsilon, self._pair, cap, self._unbroken) == now:
                self.kept[epsilon] = edit()
        return bool(self._caps) and now >= max(self._caps.values())


def random_config(method: Method, model: LanguageModel, seed: int, rules: Rules = OURS) -> Any:
    """Draw a configuration: the default first (seed 0), then as the method draws, else from what it finds worth trying."""
    follows = rules.compat.fits == "official" and method.needs.task == "canonical" and compat_of(method.config) is not None
    fixed = {**method.alone, **({COMPAT: "official"} if follows else {})}
    if seed == 0:
        return method.configure(fixed)
    rng = Random(f"{method.name}:{seed}")
    if method.draws is not None:
        return method.configure({**method.draws(rng, model.info), **fixed})
    rng.random()  # so that a seed gives the knobs that it gave in runs recorded before methods drew for themselves
    return method.configure({**fixed, **{name: rng.choice(values) for name, values in method.tries(model.info).items()}})


def run_of(
    model: LanguageModel,
    task: CanonicalTask,
    method: Method,
    config: Any,
    seed: int,
    regularisation: Sequence[Chunk],
    general: Sequence[Chunk],
    progress: Progress,
    rules: Rules = OURS,
    caps: Mapping[float, int] = MappingProxyType({}),
) -> ProtocolRun:
    """Fit a configuration on a pair's training examples and measure it after every epoch, or at every dose.

    Given caps (ε → largest step that may count), the run keeps the edit that counts at each ε and stops where no later step can.

    Raises:
        Obstructed: the method cannot run here.
    """
    started = time.perf_counter()
    method.require(model, as_fit_rows(task.train))
    items = canonical_items(model, task.train, getattr(config, "loss", "auto"))
    tokens = sum(len(ids) for item in items for ids, _ in item.sequences())
    keeper = Keeper(caps, rules, task.pair, unbroken=method.steps is None)
    doses: tuple[float, ...] | None = None
    if method.steps is not None:
        steps = _epochs(method.steps, model, task, config, seed, regularisation, general, progress, keeper)
    else:
        steps, doses = _doses(method, model, task, config, seed, general, progress, keeper)
    return ProtocolRun(method.name, as_json(config), tuple(steps), doses, tokens, time.perf_counter() - started, keeper.kept)


def _epochs(
    states: StepFunction, model: LanguageModel, task: CanonicalTask, config: Any, seed: int, regularisation: Sequence[Chunk],
    general: Sequence[Chunk], progress: Progress, keeper: Keeper,
) -> list[StepMeasured]:  # fmt: skip
    meter, steps = EditMeter(model, task, general), list[StepMeasured]()
    state: Step
    for epoch, state in enumerate(states(model, task.train, config, regularisation, seed=seed)):
        steps.append(meter.measure(state.edit()) if state.logits is None else meter.forward(state.logits))
        progress(state.share, f"{task.pair}: epoch {epoch}", success=steps[-1].success)
        if keeper.saw(steps, state.edit):
            break
    return steps


def _doses(
    method: Method, model: LanguageModel, task: CanonicalTask, config: Any, seed: int, general: Sequence[Chunk], progress: Progress,
    keeper: Keeper,
) -> tuple[list[StepMeasured], tuple[float, ...]]:  # fmt: skip
    edit = method.fit(model, as_fit_rows(task.train), config, seed=seed, progress=progress.part(0.0, 0.5)).edit
    doses = (0.0, *(method.top_dose * 2 ** (-i / 2) for i in range(12, -1, -1)))
    meter, steps = EngineMeter(model, task, general), list[StepMeasured]()
    for start in range(0, len(doses), LANES_AT_ONCE):
        lanes: list[Edit | None] = [edit.scaled(dose) for dose in doses[start : start + LANES_AT_ONCE]]
        steps += meter.measure_all(lanes)
        progress(0.5 + 0.5 * len(steps) / len(doses), f"{task.pair}: doses up to {doses[len(steps) - 1]:.3g}")
    for step, dose in enumerate(doses):
        keeper.saw(steps[: step + 1], lambda: edit.scaled(dose))  # noqa: B023
    return steps, doses


def as_fit_rows(train: Demonstrations) -> Demonstrations:
    """Mark a pair's training examples as rows to fit: methods look at no other split."""
    return train.with_rows(_with_split(row) for row in train)


def _with_split(row: Demonstration) -> Demonstration:
    return Demonstration(row.prompt, row.positive, row.negative, row.neutral, row.label, row.loss, row.tags, "fit", row.id)


__all__ = ["Keeper", "ProtocolRun", "as_fit_rows", "random_config", "run_of"]
