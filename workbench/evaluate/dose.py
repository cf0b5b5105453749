"""How much of an edit: a sweep over doses, and the largest dose at which the model still speaks.

The dose that `max_coherent_dose` returns passes the limits, and so do all smaller doses that were tried: damage need
not grow steadily, so a pass beyond a failure does not count (docs/methods/shared.md §9.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, edit_name, lane_labels
from workbench.edits.lane import Lane, LanesLike
from workbench.edits.placebo import rotated
from workbench.edits.prompting import Prompting
from workbench.errors import BadKnob
from workbench.evaluate.benefit import benefit
from workbench.evaluate.metrics import Metric, scores_of, with_base
from workbench.evaluate.side_effects import neutral_losses, repetition, side_effects
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent

_OPENING_WORDS = 6
SWEPT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class DoseSweep:
    """Scores of one edit at rising doses; lane i of each metric is `doses[i]`, lane 0 is dose 0, the base model.

    `placebo` holds the same metrics of a random edit of equal size, pooled over seeds; empty without.
    """

    model: str
    edit: str
    edit_id: str
    data: str
    split: str
    doses: tuple[float, ...]
    metrics: tuple[Metric, ...]
    placebo: tuple[Metric, ...]
    why: str = ""
    """Which rows were left out since the edit was fitted on them, as `Benefit.why`."""
    beside: tuple[LaneLabel, ...] = ()
    """Other lanes, each at its own dose, such as a prompt that asks for the same."""
    beside_metrics: tuple[Metric, ...] = ()
    """Their metrics; lane 0 is the base model, lane i + 1 is `beside[i]`."""
    notes: tuple[str, ...] = ()
    """What to know before the numbers are compared, as `Evaluation.notes`."""

    def rows(self) -> list[dict[str, Any]]:
        """One table row a dose, behind it its placebo's, then one a lane beside, whose dose is its own; scores as `metrics.scores_of`."""
        found: list[dict[str, Any]] = []
        for i, dose in enumerate(self.doses):
            found.append({"lane": self.edit if dose else "base", "dose": dose, **scores_of(self.metrics, i)})
            if dose and self.placebo:
                found.append({"lane": f"placebo of {self.edit}", "dose": dose, **scores_of(self.placebo, i)})
        return found + [{"lane": one.label, "dose": None, **scores_of(self.beside_metrics, i)} for i, one in enumerate(self.beside, 1)]


def dose_sweep(
    model: LanguageModel,
    edit: Edit,
    demonstrations: Demonstrations,
    neutral: Sequence[str],
    doses: Sequence[float] = SWEPT,
    *,
    split: Split | None = "test",
    placebo_seeds: Sequence[int] = (0,),
    n_generations: int = 8,
    said: Prompting | None = None,
    beside: LanesLike = (),
    progress: Progress | None = None,
) -> DoseSweep:
    """Measure benefit and side effects of an edit at several doses, counted from its fit.

    Args:
        said: what is said before every prompt at every dose above 0.
        beside: other lanes to measure once beside the doses.

    Raises: as `evaluation`.
    """
    tell = progress or silent()
    wanted = tuple(sorted({float(dose) for dose in doses if dose != 0}))
    edits = [edit.dosed(dose) for dose in wanted]
    others = with_base(beside)[1:]
    lanes = [Lane(), *(Lane((item,), said) for item in edits)]
    lanes += [Lane((rotated(item, seed),), said) for seed in placebo_seeds for item in edits]
    gain = benefit(model, demonstrations, [*lanes, *others], split=split, progress=tell.part(0.0, 0.5))
    cost = side_effects(model, neutral, [*lanes, *others], n_generations=n_generations, progress=tell.part(0.5, 1.0))
    metrics = (*gain.metrics, *cost.metrics)
    n = len(wanted)
    own = [[lane] for lane in range(n + 1)]
    turned = [[0], *([1 + n * (1 + k) + i for k in range(len(placebo_seeds))] for i in range(n))]
    rivals = [[0], *([len(lanes) + i] for i in range(len(others)))]
    return DoseSweep(
        model.info.name,
        edit_name(edit),
        edit.id,
        demonstrations.name,
        split or "all",
        (0.0, *wanted),
        tuple(metric.pooled(own) for metric in metrics),
        tuple(metric.pooled(turned) for metric in metrics) if placebo_seeds else (),
        gain.why,
        lane_labels(others),
        tuple(metric.pooled(rivals) for metric in metrics) if others else (),
    )


@dataclass(frozen=True)
class Limits:
    """What still counts as coherent, against the base model on the same texts."""

    kl_nats: float = 0.1
    perplexity_ratio: float = 1.2
    repetition_rise: float = 0.2

    def broken_by(self, probe: DoseProbe) -> str:
        """The name of the first limit that a probe breaks; empty if it breaks none (NaN breaks all)."""
        checks = (
            ("KL", probe.kl_nats, self.kl_nats),
            ("perplexity", probe.perplexity_ratio, self.perplexity_ratio),
            ("repetition", probe.repetition_rise, self.repetition_rise),
        )
        return next((name for name, got, limit in checks if not got <= limit), "")


@dataclass(frozen=True)
class DoseProbe:
    """One dose tried: damage against the base, and the limit it breaks (empty: none)."""

    dose: float
    kl_nats: float
    perplexity_ratio: float
    repetition_rise: float
    broken: str = ""


@dataclass(frozen=True)
class CoherentDose:
    """The largest dose within limits, every dose that was tried (rising), and how many texts decided."""

    dose: float
    probes: tuple[DoseProbe, ...]
    limits: Limits
    n_texts: int
    largest_asked: float

    @property
    def is_bounded(self) -> bool:
        """Whether some tried dose broke a limit; if not, the answer is merely the largest asked for."""
        return any(probe.broken for probe in self.probes)


def max_coherent_dose(
    model: LanguageModel,
    edit: Edit,
    neutral: Sequence[str],
    limits: Limits | None = None,
    *,
    largest: float = 4.0,
    tolerance: float = 0.05,
    max_new_tokens: int = 30,
    progress: Progress | None = None,
) -> CoherentDose:
    """Find the largest dose, counted from the fit, up to `largest` whose damage stays within limits, to within `tolerance`.

    Five doses by powers of two in one batch of lanes, then bisection between the last that passes and the first that
    fails. Deterministic.

    Raises:
        BadKnob: `largest` or `tolerance` is not above 0. NotEnoughData: no neutral text. Others: as `engine.lanes`.
    """
    if not (largest > 0 and tolerance > 0):
        raise BadKnob(f"largest = {largest}, tolerance = {tolerance}; both have to be above 0.", "Give positive numbers.")
    allowed, tell = limits or Limits(), progress or silent()
    grid = [largest * 2.0**power for power in range(-4, 1)]
    found = _probed(model, edit, neutral, grid, allowed, max_new_tokens, tell.part(0.0, 0.5))
    failing = next((i for i, probe in enumerate(found) if probe.broken), None)
    if failing is None:
        return CoherentDose(largest, tuple(found), allowed, len(neutral), largest)
    low, high = (grid[failing - 1] if failing else 0.0), grid[failing]
    steps = max(1, int(np.ceil(np.log2((high - low) / tolerance))))
    for step in range(steps):
        middle = (low + high) / 2
        part = tell.part(0.5 + 0.5 * step / steps, 0.5 + 0.5 * (step + 1) / steps)
        probe = _probed(model, edit, neutral, [middle], allowed, max_new_tokens, part)[0]
        found.append(probe)
        low, high = (low, middle) if probe.broken else (middle, high)
    tell(1.0, "Done", best=low)
    return CoherentDose(low, tuple(sorted(found, key=lambda p: p.dose)), allowed, len(neutral), largest)


def _probed(
    model: LanguageModel,
    edit: Edit,
    neutral: Sequence[str],
    doses: Sequence[float],
    limits: Limits,
    max_new_tokens: int,
    progress: Progress,
) -> list[DoseProbe]:
    stacks = [Lane(), *(Lane((edit.dosed(dose),)) for dose in doses)]
    kl, nll, weights = neutral_losses(model, neutral, stacks, progress=progress.part(0.0, 0.5))
    openings = [" ".join(text.split()[:_OPENING_WORDS]) for text in neutral[:8]]
    repeated = repetition(model, openings, stacks, max_new_tokens, progress=progress.part(0.5, 1.0)).mean(1)
    share = weights / weights.sum()
    ratios = np.exp(((nll - nll[0]) * share).sum(1))
    probes = [
        DoseProbe(dose, float((kl[i] * share).sum()), float(ratios[i]), float(repeated[i] - repeated[0])) for i, dose in enumerate(doses, 1)
    ]
    return [replace(probe, broken=limits.broken_by(probe)) for probe in probes]
