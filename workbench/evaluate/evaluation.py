"""One answer to "is it worth it?": benefit and side effects of stacks of edits, each beside a placebo of equal size."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations, Split
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import Lane, LanesLike
from workbench.edits.placebo import rotated
from workbench.evaluate.benefit import Benefit, benefit, length_of, rows_scored
from workbench.evaluate.budget import Budget, budget, sizes_in_order
from workbench.evaluate.metrics import Metric, with_base
from workbench.evaluate.own_answers import own_answers
from workbench.evaluate.rivals import rival_sentences
from workbench.evaluate.side_effects import SideEffects, side_effects
from workbench.evaluate.verdict import Verdict, verdict
from workbench.methods.shared.layers import SMALL
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent

_NONE: Mapping[str, Demonstrations] = MappingProxyType({})
_TIMED_TEXTS = 12
"""A look against the clock sees so many texts and own answers at most."""


@dataclass(frozen=True)
class Evaluation:
    """Benefit and, where there was neutral text, side effects, over the same lanes; lane 0 is the base model.

    `placebo_of[lane]` is the lane that a placebo lane belongs to, None for the others. A placebo's numbers are means over
    `n_placebos` random rotations, item by item.
    """

    benefit: Benefit
    side_effects: SideEffects | None
    placebo_of: tuple[int | None, ...]
    n_placebos: int
    notes: tuple[str, ...] = ()
    """What to know before numbers are compared: another rendering than the fit's, an edit that hardly acts, an ability that nobody has."""

    @property
    def lanes(self) -> tuple[LaneLabel, ...]:
        """What was measured side by side: the base, the stacks, their placebos."""
        return self.benefit.lanes

    @property
    def all_metrics(self) -> tuple[Metric, ...]:
        """Benefit first, then side effects."""
        return (*self.benefit.metrics, *(self.side_effects.metrics if self.side_effects else ()))

    @property
    def verdict(self) -> Verdict:
        """What the first edit does, in words, beside its placebo; of prompts alone, what the first one does."""
        edit = self._first
        placebo = self.placebo_of.index(edit) if edit in self.placebo_of else None
        shuffled = next((at for at, lane in enumerate(self.lanes) if lane.control == "shuffled"), None)
        return verdict(self.benefit, self.side_effects, edit, placebo, shuffled)

    @property
    def rivals(self) -> tuple[str, ...]:
        """What prompts that were measured beside the first edit do instead of it, or against it, in Markdown."""
        return rival_sentences(self.benefit, self.side_effects, self._first)

    @property
    def _first(self) -> int:
        """The lane that is judged: the first that is an edit alone, else the first with an edit, else the first."""
        mine = [at for at, lane in enumerate(self.lanes) if lane.edit_ids and not lane.control]
        alone = [at for at in mine if self.lanes[at].prompting is None]
        return next(iter((*alone, *mine)), min(1, len(self.lanes) - 1))

    @property
    def plain(self) -> str:
        """The verdict and what is told of prompts, without Markdown: what is saved with the edit."""
        return " ".join([self.verdict.plain, *(told.replace("**", "") for told in self.rivals)])

    def rows(self) -> list[dict[str, Any]]:
        """One table row a lane and metric: value, interval, n, and the paired change against the base, always a difference.

        Bounds that are withheld are None, and `withheld` says why.
        """
        found: list[dict[str, Any]] = []
        for metric in self.all_metrics:
            for lane, value, change in zip(self.lanes, metric.values, metric.changes):
                row: dict[str, Any] = {"lane": lane.label, "metric": metric.name, "unit": metric.unit, "better": metric.better}
                row |= {"value": value.estimate, "low": value.bounds[0], "high": value.bounds[1], "n": metric.n}
                low, high = change.bounds if change else (None, None)
                row |= {"change": change and change.estimate, "change_low": low, "change_high": high}
                found.append(row | {"withheld": value.withheld or (change.withheld if change else "")})
        return found

    def metrics(self) -> dict[str, float]:
        """Every metric of every lane, as `lane / metric`."""
        return {
            f"{lane.label} / {metric.name}": value.estimate for metric in self.all_metrics for lane, value in zip(self.lanes, metric.values)
        }


def evaluation(
    model: LanguageModel,
    demonstrations: Demonstrations,
    lanes: LanesLike,
    *,
    split: Split | None = "test",
    neutral: Sequence[str] = (),
    own: Sequence[Prompt] = (),
    capability: Mapping[str, Demonstrations] = _NONE,
    shuffled: Lane | None = None,
    n_placebos: int = 3,
    n_generations: int = 16,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a split under the base, each stack, and a placebo of each; without neutral text no side effects.

    Args:
        own: prompts whose answers by the unedited model are looked at as neutral text is.
        shuffled: the first lane as it was fitted on shuffled sides; it stands beside the placebos.
        seconds: measure as many rows and texts as about so many seconds allow, judged once; None: all. Small models are measured whole.
        capability: sets that the edits are not about, by name; each adds its first score to the side effects.

    Raises:
        NotEnoughData: nothing in the split can be scored. Others: as `engine.lanes`.
    """
    tell, whole = progress or silent(), with_base(lanes)
    edited = [at for at, lane in enumerate(whole) if lane.edits and n_placebos]
    turned = [[_placebo(whole[at], seed) for seed in range(n_placebos)] for at in edited]
    every = [*whole, *(lane for group in turned for lane in group)]
    groups: list[list[int]] = [[lane] for lane in range(len(whole))]
    groups += [[len(whole) + i * n_placebos + seed for seed in range(n_placebos)] for i in range(len(turned))]
    placebo_of = (*(None for _ in whole), *edited)
    names = lane_labels(whole)
    if shuffled is not None:
        groups.append([len(every)])
        every, placebo_of = [*every, shuffled], (*placebo_of, None)
    labels = (*names, *(LaneLabel(f"placebo of {names[of].label}", control="placebo") for of in placebo_of if of is not None))
    labels += (
        ()
        if shuffled is None
        else (replace(lane_labels([shuffled])[0], label=f"shuffled control of {names[1].label}", control="shuffled"),)
    )
    most = _most(model, demonstrations, every, split, neutral, own, seconds, tell)
    neutral, own = neutral[: most.texts], own[: most.texts]
    capability = capability if most.texts is None else {}  # a look against the clock has none for them
    gains = benefit(model, demonstrations, every, split=split, most_rows=most.rows, progress=tell.part(0.0, 0.6))
    # Lanes that are called alike, as an edit and its shuffled control, are numbered until each has its own name.
    called = {gains.lanes[at].label: name.label for at, name in enumerate(names)}
    items = tuple({**item, "lane": called[item["lane"]]} for item in gains.items if item["lane"] in called)
    gains = replace(gains, lanes=labels, metrics=_pooled(gains.metrics, groups), items=items)
    breaks: SideEffects | None = None
    if neutral:
        part = tell.part(0.6, 1.0)
        breaks = side_effects(model, neutral, every, own=own, capability=capability, n_generations=n_generations, progress=part)
        breaks = replace(breaks, lanes=labels, metrics=_pooled(breaks.metrics, groups))
    tell(1.0, "Done")
    return Evaluation(gains, breaks, placebo_of, n_placebos, breaks.notes if breaks else ())


def _most(
    model: LanguageModel, demonstrations: Demonstrations, every: Sequence[Lane], split: Split | None, neutral: Sequence[str],
    own: Sequence[Prompt], seconds: float | None, tell: Progress,
) -> Budget:  # fmt: skip
    """What there is time for."""
    if seconds is None or model.info.n_parameters < SMALL:
        return Budget()

    began = time.perf_counter()
    if own:  # made together, once for a model, and no part of what the first look tells
        own_answers(model, own[:_TIMED_TEXTS], progress=tell.part(0.0, 0.0))

    def rows(n: int) -> None:
        tell(0.0, f"Timing {n} rows")
        benefit(model, demonstrations, every, split=split, most_rows=n)

    def texts(n: int) -> None:
        tell(0.0, f"Timing {n} texts")
        side_effects(model, neutral[:n], every, own=own[:n], n_generations=0)

    row_sizes = sizes_in_order(rows_scored(demonstrations, split, every).rows, length_of)
    pairs = zip_longest(neutral[:_TIMED_TEXTS], own[:_TIMED_TEXTS], fillvalue="")
    left = seconds - (time.perf_counter() - began)
    found = budget(left, rows, row_sizes, texts if neutral else None, [float(len(a) + len(str(b))) for a, b in pairs])
    tell(0.0, f"Measuring {found.rows} rows at most")
    return found


def _placebo(lane: Lane, seed: int) -> Lane:
    """The lane with random edits of equal size, saying the same before prompts."""
    return Lane(tuple(rotated(edit, seed) for edit in edits_of(lane)), lane.prompting)


def _pooled(metrics: Sequence[Metric], groups: Sequence[Sequence[int]]) -> tuple[Metric, ...]:
    def one(metric: Metric) -> Metric:
        pooled = metric.pooled(groups)
        # Means of several placebos are no longer successes; a lane alone keeps the interval of its own kind.
        pairs = zip(groups, pooled.values)
        return replace(pooled, values=tuple(metric.values[g[0]] if len(g) == 1 else value for g, value in pairs))

    return tuple(one(metric) for metric in metrics)
