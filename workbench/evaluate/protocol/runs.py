"""Runs of the protocol: a configuration on one pair, measured step by step: epochs for the canonical loop, doses for the rest."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.edits.base import Edit
from workbench.evaluate.protocol.measure import CanonicalTask, Chunk, EngineMeter, LogitsMeter, Measured, SenseMeter
from workbench.evaluate.protocol.rules import OURS, Rules
from workbench.knobs import as_json, configured
from workbench.methods.canonical.finetuning import LR, LR_SMALL, SMALL, TwinTrainee
from workbench.methods.canonical.lora import LR as LORA_LR
from workbench.methods.canonical.lora import AdapterTrainee, LoraConfig
from workbench.methods.canonical.training import LoopConfig, Objective, Trainee, epochs, settings_of
from workbench.methods.choice import grid
from workbench.methods.registry import Method, header
from workbench.methods.senses.config import SMALL_VOCABULARY
from workbench.methods.senses.config import settings_of as sense_settings
from workbench.methods.senses.problem import posed, trained
from workbench.methods.shared.canonical_config import CanonicalConfig
from workbench.methods.shared.canonical_examples import canonical_items
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.methods.shared.sense_texts import neutral_reading
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.progress import Progress

# Largest dose of methods that steer activations; the others are used up to how they were fitted (docs/methods/senses.md §9.3).
STEERING = {"mean_difference": 4.0}
# A pair's examples are all there is to train on: none are apart for a search to choose on.
FIXED: Mapping[str, Mapping[str, Any]] = {"tarot": {"select_on": "train"}}
LANES_AT_ONCE = 7


@dataclass(frozen=True)
class Run:
    """A configuration on one pair: what was measured at each step, step 0 being the unedited model."""

    method: str
    config: Mapping[str, Any]
    steps: tuple[Measured, ...]
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

    def saw(self, steps: Sequence[Measured], edit: Callable[[], Edit]) -> bool:
        """Note a step; return whether the run may stop."""
        now = len(steps) - 1
        rhos, successes = [step.general / steps[0].general for step in steps], [step.success for step in steps]
        for epsilon, cap in self._caps.items():
            if now and self._rules.step(rhos, successes, epsilon, self._pair, cap, self._unbroken) == now:
                self.kept[epsilon] = edit()
        return bool(self._caps) and now >= max(self._caps.values())


def drawn(method: Method, model: LanguageModel, seed: int, rules: Rules = OURS) -> Any:
    """Draw a configuration: the default first (seed 0), then as the paper's sweeps do, with rates for small networks where this is one.

    Methods that the paper does not sweep draw from `choice.grid`; one that has no grid has its default alone.
    """
    config = _drawn(method, model, seed)
    as_released = rules.compat.fits == "official" and isinstance(config, CanonicalConfig)
    return configured(method.config, {"compat": "official"}, config) if as_released else config


def _drawn(method: Method, model: LanguageModel, seed: int) -> Any:
    if seed == 0:
        return method.configure(FIXED.get(method.name, {}))
    rng = random.Random(f"{method.name}:{seed}")
    small, w = model.info.n_parameters < SMALL, 10 ** rng.uniform(-1, 0)
    if method.name == "senses":
        few = model.info.d_vocab < SMALL_VOCABULARY
        lr = 10 ** -(rng.uniform(0.7, 2.5) if few else rng.uniform(1.5, 4))
        penalty = rng.choice([0.0, 1.0, 10.0, 100.0, 1000.0] if few else [1000.0])
        return method.configure({"lr": lr, "kl_weight": w, "top_k": rng.randint(5, 11), "penalty": penalty})
    if method.name == "lora":
        lr = 10 ** -(rng.uniform(1.5, 4) if small else rng.uniform(2, 6.5))
        return method.configure({"lr": lr, "kl_weight": w, "rank": rng.randint(1, 64 if small else 256), "span": rng.uniform(0.1, 0.9)})
    if method.name == "finetuning":
        return method.configure({"lr": 10 ** -(rng.uniform(3, 5.5) if small else rng.uniform(4, 8.5)), "kl_weight": w})
    options = grid(method.name, model.info)
    return method.configure({**FIXED.get(method.name, {}), **{name: rng.choice(values) for name, values in options.items()}})


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
) -> Run:
    """Fit a configuration on a pair's training examples and measure it after every epoch, or at every dose.

    Given caps (ε → largest step that may count), the run keeps the edit that counts at each ε and stops where no later step can.

    Raises:
        Obstructed: the method cannot run here.
    """
    started = time.perf_counter()
    items = canonical_items(model, task.train, getattr(config, "loss", "auto"))
    tokens = sum(len(ids) for item in items for ids, _ in item.sequences())
    doses: tuple[float, ...] | None = None
    by_epoch = isinstance(config, LoopConfig) or method.name == "senses"
    keeper = Keeper(caps, rules, task.pair, unbroken=not by_epoch)
    if method.name == "senses" and isinstance(model, BackpackModel):
        steps = _sense_steps(model, task, config, seed, regularisation, general, progress, keeper)
    elif isinstance(config, LoopConfig):
        steps = _loop_steps(model, task, method, config, seed, regularisation, general, progress, keeper)
    else:
        steps, doses = _dose_steps(model, task, method, config, seed, general, progress, keeper)
    return Run(method.name, as_json(config), tuple(steps), doses, tokens, time.perf_counter() - started, keeper.kept)


def _sense_steps(
    model: BackpackModel, task: CanonicalTask, config: Any, seed: int, regularisation: Sequence[Chunk], general: Sequence[Chunk],
    progress: Progress, keeper: Keeper,
) -> list[Measured]:  # fmt: skip
    settings = sense_settings(config, model)
    items = canonical_items(model, task.train, config.loss)
    problem = posed(model, items, neutral_reading(model, regularisation), settings)
    meter = SenseMeter(model, task, general, problem.selection)
    top = header("senses", model, task.train, config, seed, {"n_senses": model.n_senses})
    steps: list[Measured] = []
    for epoch, delta in trained(problem, settings, seed):
        steps.append(meter.measure_table(delta))
        progress(epoch / settings.loop.epochs, f"{task.pair}: epoch {epoch}", success=steps[-1].success)
        if keeper.saw(steps, lambda: SenseEdit(top, problem.selection.token_ids, problem.selection.sense_ids, delta.clone())):  # noqa: B023
            break
    return steps


def _loop_steps(
    model: LanguageModel, task: CanonicalTask, method: Method, config: LoopConfig, seed: int, regularisation: Sequence[Chunk],
    general: Sequence[Chunk], progress: Progress, keeper: Keeper,
) -> list[Measured]:  # fmt: skip
    trainee: Trainee
    if isinstance(config, LoraConfig):
        trainee, lr = AdapterTrainee(model, config, seed), LORA_LR
    else:
        trainee, lr = TwinTrainee(model, config.master), LR_SMALL if model.info.n_parameters < SMALL else LR
    items = canonical_items(model, task.train, config.loss)
    objective = Objective(model, trainee, items, regularisation, config)
    meter, top = LogitsMeter(task, general, model.device), header(method.name, model, task.train, config, seed)
    steps: list[Measured] = []
    for epoch in epochs(objective, trainee, len(items), len(regularisation), settings_of(config, lr), seed):
        steps.append(meter.measure(trainee.logits))
        progress(epoch / config.epochs, f"{task.pair}: epoch {epoch}", success=steps[-1].success)
        if keeper.saw(steps, lambda: trainee.edit(top)):
            break
    return steps


def _dose_steps(
    model: LanguageModel, task: CanonicalTask, method: Method, config: Any, seed: int, general: Sequence[Chunk], progress: Progress,
    keeper: Keeper,
) -> tuple[list[Measured], tuple[float, ...]]:  # fmt: skip
    edit = method.fit(model, as_fit_rows(task.train), config, seed=seed, progress=progress.part(0.0, 0.5)).edit
    top = STEERING.get(method.name, 1.0)
    doses = (0.0, *(top * 2 ** (-i / 2) for i in range(12, -1, -1)))
    meter, steps = EngineMeter(model, task, general), []
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


__all__ = ["Keeper", "Run", "as_fit_rows", "drawn", "run_of"]
