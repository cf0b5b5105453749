"""A lens over several prompts: the mean of each layer's, head's or part's number over the rows of a set, and how far rows lie apart.

A row counts where its good and its bad answer are one token each: they are the target and the distractor of its own prompt. `layers` are
the logit lens' log p(target) − log p(distractor) at the last token after each layer, nats. Of heads, `looks` is the share of attention from
the last token to the target, in rows whose prompt names it; `lost` how much of the logit difference goes when the head is silent
(`head_ablation`). The other kinds are those of direct attribution.
`spread` is the standard deviation over rows, `low` and `high` the ends of the mean's 95 % interval, NaN where rows are too few for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import NotEnoughData, UnknownName
from workbench.lenses.ablation import head_ablation
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.bridged import bridged
from workbench.lenses.heads import looks_at
from workbench.lenses.logit_lens import logit_lens
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_ids
from workbench.numerics.intervals import mean_interval
from workbench.progress import Progress, silent
from workbench.shapes import Float

What = Literal["layers", "component", "head", "node", "looks", "lost"]
LENS: Mapping[str, str] = {
    "layers": "logit_lens", "component": "direct_attribution", "head": "direct_attribution", "node": "direct_attribution",
    "looks": "name_movers", "lost": "head_ablation",
}  # fmt: skip
"""The lens behind each kind: where that cannot look, no mean of it can be had."""
MOST_PAIRS, LEAST_PAIRS = 32, 3


@dataclass(frozen=True)
class OverRows:
    """Numbers by label (an entry of the logit lens, a component, a head) over `n` rows; `left_out` had answers of several tokens, or, of
    `looks`, a target that their prompt does not name.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    data: str
    what: What
    labels: tuple[str, ...]
    mean: Float[np.ndarray, "lane label"]
    spread: Float[np.ndarray, "lane label"]
    low: Float[np.ndarray, "lane label"]
    high: Float[np.ndarray, "lane label"]
    n: int
    left_out: int

    def rows(self) -> list[dict[str, Any]]:
        """One table row a label and lane."""
        return [
            {"lane": lane.label, "what": label, "mean": float(self.mean[i, j]), "spread": float(self.spread[i, j]),
             "low": _told(self.low[i, j]), "high": _told(self.high[i, j]), "n": self.n}
            for i, lane in enumerate(self.lanes)
            for j, label in enumerate(self.labels)
        ]  # fmt: skip


def _told(x: float) -> float | None:
    return None if np.isnan(x) else float(x)


def over_rows(
    model: LanguageModel,
    demonstrations: Demonstrations,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    what: What = "component",
    most: int = MOST_PAIRS,
    progress: Progress | None = None,
) -> OverRows:
    """Read each row of a set by itself, under each stack of edits, and put the rows together.

    Raises:
        UnknownName: there is no such kind. Obstructed: the model lacks what the kind's lens reads (`LENS`). NotEnoughData: fewer than
        `LEAST_PAIRS` rows count.
    """
    if what not in LENS:
        raise UnknownName("kind", what, LENS)
    owner, tell = bridged(model, LENS[what]), progress or silent()
    pairs = [row for row in demonstrations if row.positive and row.negative]
    kept = rows_of_a_token(owner, demonstrations, named=what == "looks")
    if len(kept) < LEAST_PAIRS:
        named = ", and name the good one in their prompt" if what == "looks" else ""
        raise NotEnoughData(
            f"{len(kept)} of {len(demonstrations)} rows of {demonstrations.name!r} have two answers of one token each{named}.",
            f"At least {LEAST_PAIRS} are needed: write answers of one word, with their space.",
        )
    rows = kept[:most]
    found: list[np.ndarray] = []
    labels: tuple[str, ...] = ()
    for i, row in enumerate(rows):
        labels, values = _read(owner, row, stacks, what, tell.part(i / len(rows), (i + 1) / len(rows)))
        found.append(values)
    every = np.stack(found)  # row, lane, label
    ends = np.array([[mean_interval(every[:, i, j]).bounds for j in range(len(labels))] for i in range(len(stacks))], dtype=float)
    tell(1.0, "Done")
    told = (every.mean(0), every.std(0, ddof=1), ends[..., 0], ends[..., 1], len(rows), len(pairs) - len(kept))
    return OverRows(owner.info.name, lane_labels(stacks), demonstrations.name, what, labels, *told)


def rows_of_a_token(model: LanguageModel, demonstrations: Demonstrations, *, named: bool = False) -> list[Demonstration]:
    """The rows whose good and bad answer are one token each; `named`: and whose prompt holds the token of the good one."""
    ids = [
        (row, [token_ids(model, str(text)) for text in (row.positive, row.negative)])
        for row in demonstrations.having("positive", "negative")
    ]
    kept = [(row, each[0][0]) for row, each in ids if all(len(one) == 1 for one in each)]
    return [row for row, good in kept if not named or bool((model.tokens(row.prompt).ids == good).any())]


def _read(
    model: LanguageModel, row: Demonstration, stacks: Sequence[Sequence[Edit]], what: What, tell: Progress
) -> tuple[tuple[str, ...], Float[np.ndarray, "lane label"]]:
    good, bad = str(row.positive), str(row.negative)
    if what in ("looks", "lost"):
        by_head = (
            looks_at(model, row.prompt, good, stacks, progress=tell) if what == "looks"
            else -head_ablation(model, row.prompt, good, bad, stacks, progress=tell).change
        )  # fmt: skip
        labels = tuple(f"L{layer}H{head}" for layer in range(by_head.shape[1]) for head in range(by_head.shape[2]))
        return labels, by_head.reshape(len(stacks), -1)
    if what != "layers":
        told = direct_attribution(model, row.prompt, good, bad, stacks, unit=what, progress=tell)
        return told.labels, told.values
    n = model.tokens(row.prompt).ids.shape[1]
    lens = logit_lens(model, row.prompt, stacks, targets=[good, bad], top_k=1, window=(n - 1, n), progress=tell)
    return lens.entries, lens.target_log_probs[:, :, 0, 0] - lens.target_log_probs[:, :, 0, 1]
