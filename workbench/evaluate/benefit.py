"""Does an edit do what its demonstrations ask for, on rows that no fit has seen?

Scores are sums of log-probabilities over a continuation's tokens, not length-normalised (docs/methods/shared.md §9.1).
MC1: the best true reference beats every false one, strictly. P(truth) = Σ p(true) / (Σ p(true) + Σ p(false)).
Both compare listed answers only; the probability of a true answer, Σ p(true), falls when an edit makes the model say something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.decode import Sampling, generate
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.edits.lane import LanesLike
from workbench.errors import NotEnoughData
from workbench.evaluate.metrics import Metric, Stacks, mean_metric, share_metric, with_base
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.score import continuation_scores
from workbench.shapes import Float

_MOST_LABELS = 20
"""More distinct labels than this are free answers, not classes to choose among."""


@dataclass(frozen=True)
class Benefit:
    """Scores on demonstrations, and one row an item and lane for the table."""

    model: str
    lanes: tuple[LaneLabel, ...]
    data: str
    split: str
    n: int
    metrics: tuple[Metric, ...]
    items: tuple[dict[str, Any], ...]

    def metric(self, name: str) -> Metric:
        """The metric of a name (a KeyError if there is none: names are this package's own)."""
        return {item.name: item for item in self.metrics}[name]


@dataclass(frozen=True)
class Part:
    """Metrics over some rows, with their table rows."""

    metrics: tuple[Metric, ...]
    items: tuple[dict[str, Any], ...]


def benefit(
    model: LanguageModel,
    demonstrations: Demonstrations,
    lanes: LanesLike,
    *,
    split: Split | None = "test",
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Benefit:
    """Score the rows of a split (None: all) under each lane; the base model is lane 0.

    What is scored follows from the columns: pairs and references give MC1, P(truth) and the margin; rows of loss
    `balance` the imbalance; labels the accuracy; rows with nothing but a positive its log-probability.

    Raises:
        NotEnoughData: the split has no row with any of these. Others: as `engine.lanes`.
    """
    whole, tell = with_base(lanes), progress or silent()
    rows = demonstrations if split is None else demonstrations.split(split)
    parts: list[Part] = []
    jobs = _jobs(rows, demonstrations)
    for index, (score, chosen) in enumerate(jobs):
        part = tell.part(index / len(jobs), (index + 1) / len(jobs))
        parts.append(score(model, chosen, whole, max(1, batch_size // len(whole)), part))
    if not parts:
        raise NotEnoughData(
            f"No row of split {split or 'any'} in {demonstrations.name!r} has a positive or a label to score.",
            "Mark some rows as test, or fill their positive and negative columns.",
        )
    labels = lane_labels(whole)
    items = tuple({**row, "lane": labels[row["lane"]].label} for part in parts for row in part.items)
    metrics = tuple(metric for part in parts for metric in part.metrics)
    return Benefit(model.info.name, labels, demonstrations.name, split or "all", len(rows), metrics, items)


Scorer = Callable[[LanguageModel, Any, Stacks, int, Progress], Part]


def _jobs(rows: Demonstrations, everything: Demonstrations) -> list[tuple[Scorer, Any]]:
    balanced = [row for row in rows if row.loss == "balance" and row.positive and row.negative]
    paired = [row for row in rows if row.loss != "balance" and all(references(row))]
    alone = [row for row in rows if row.positive and not references(row)[1] and not row.label]
    labels = sorted({row.label for row in everything if row.label})
    labelled = [(row, labels) for row in rows if row.label] if 2 <= len(labels) <= _MOST_LABELS else []
    jobs: list[tuple[Scorer, Any]] = [(_choices, paired), (_balance, balanced), (_labels, labelled), (_alone, alone)]
    return [(score, chosen) for score, chosen in jobs if chosen]


def references(row: Demonstration) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """True and false continuations of a row: its pair first, then what its tags add."""

    def distinct(first: str | None, key: str) -> tuple[str, ...]:
        texts = [first] if first else []
        return tuple(dict.fromkeys(texts + [" " + text.strip() for text in row.all_tagged(key)]))

    return distinct(row.positive, "true"), distinct(row.negative, "false")


def _choices(model: LanguageModel, rows: list[Demonstration], stacks: Stacks, batch: int, progress: Progress) -> Part:
    options = [references(row) for row in rows]
    texts = [(*true, *false) for true, false in options]
    scores = _scored(model, rows, texts, stacks, batch, progress)
    shape = (len(stacks), len(rows))
    mc1, p_truth, p_answer, margin = np.zeros(shape, dtype=bool), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    items: list[dict[str, Any]] = []
    for i, (row, (true, _), log_p) in enumerate(zip(rows, options, scores)):
        right, wrong = log_p[:, : len(true)], log_p[:, len(true) :]
        mc1[:, i] = right.max(1) > wrong.max(1)
        p_truth[:, i] = _share(right, wrong)
        p_answer[:, i] = np.exp(right).sum(1)
        margin[:, i] = right.max(1) - wrong.max(1)
        for lane in range(len(stacks)):
            item: dict[str, Any] = {"id": row.id, "prompt": row.prompt, "lane": lane}
            item |= {"answer": texts[i][int(log_p[lane].argmax())], "mc1": bool(mc1[lane, i])}
            items.append(item | {"p_truth": float(p_truth[lane, i]), "margin_nats": float(margin[lane, i])})
    metrics = (
        share_metric("mc1", "Multiple choice (MC1)", mc1, "higher"),
        mean_metric("p_truth", "P(truth)", p_truth, "", "higher"),
        mean_metric("p_answer", "Probability of a true answer", p_answer, "", "higher"),
        mean_metric("margin_nats", "Margin of the best positive", margin, "nats", "higher"),
    )
    return Part(metrics, tuple(items))


def _share(right: Float[np.ndarray, "lane a"], wrong: Float[np.ndarray, "lane b"]) -> Float[np.ndarray, "lane"]:
    top = np.maximum(right.max(1), wrong.max(1))[:, None]  # sums of exponentials without underflow
    true, false = np.exp(right - top).sum(1), np.exp(wrong - top).sum(1)
    return true / (true + false)


def _balance(model: LanguageModel, rows: list[Demonstration], stacks: Stacks, batch: int, progress: Progress) -> Part:
    texts = [(row.positive or "", row.negative or "") for row in rows]
    log_p = np.stack(_scored(model, rows, texts, stacks, batch, progress), 1)
    signed = log_p[..., 0] - log_p[..., 1]
    items = [
        {"id": row.id, "prompt": row.prompt, "lane": lane, "log_ratio_nats": float(signed[lane, i])}
        for i, row in enumerate(rows)
        for lane in range(len(stacks))
    ]
    metrics = (
        mean_metric("imbalance_nats", "Imbalance of pairs", np.abs(signed), "nats", "lower"),
        share_metric("first_preferred", "First of the pair preferred", signed > 0, "neither"),
    )
    return Part(metrics, tuple(items))


def _labels(
    model: LanguageModel,
    rows: list[tuple[Demonstration, list[str]]],
    stacks: Stacks,
    batch: int,
    progress: Progress,
) -> Part:
    labels = rows[0][1]
    plain = [row for row, _ in rows]
    log_p = np.stack(_scored(model, plain, [tuple(labels)] * len(plain), stacks, batch, progress), 1)
    truth = np.array([labels.index(row.label or "") for row in plain])
    hit = log_p.argmax(-1) == truth
    share = np.exp(log_p - log_p.max(-1, keepdims=True))
    p_label = (share / share.sum(-1, keepdims=True))[:, np.arange(len(plain)), truth]
    items: list[dict[str, Any]] = [
        {
            "id": row.id,
            "prompt": row.prompt,
            "lane": lane,
            "label": row.label,
            "answer": labels[int(log_p[lane, i].argmax())],
            "label_accuracy": bool(hit[lane, i]),
            "p_label": float(p_label[lane, i]),
        }
        for i, row in enumerate(plain)
        for lane in range(len(stacks))
    ]
    metrics = (
        share_metric("label_accuracy", "Labels right", hit, "higher"),
        mean_metric("p_label", "P(label)", p_label, "", "higher"),
    )
    return Part(metrics, tuple(items))


def _alone(model: LanguageModel, rows: list[Demonstration], stacks: Stacks, batch: int, progress: Progress) -> Part:
    texts = [(row.positive or "",) for row in rows]
    log_p = np.stack(_scored(model, rows, texts, stacks, batch, progress), 1)[..., 0]
    items = [
        {"id": row.id, "prompt": row.prompt, "lane": lane, "log_prob_nats": float(log_p[lane, i])}
        for i, row in enumerate(rows)
        for lane in range(len(stacks))
    ]
    return Part((mean_metric("log_prob_nats", "Log-probability of the positive", log_p, "nats", "higher"),), tuple(items))


def _scored(
    model: LanguageModel,
    rows: Sequence[Demonstration],
    texts: Sequence[Sequence[str]],
    stacks: Stacks,
    batch: int,
    progress: Progress,
) -> list[Float[np.ndarray, "lane _choice"]]:
    """Summed log-probability of every choice of every row, one array a row; all choices run in one stream of batches."""
    prompts = [row.prompt for row, mine in zip(rows, texts) for _ in mine]
    flat = [text for mine in texts for text in mine]
    total = continuation_scores(model, prompts, flat, stacks, batch_size=batch, progress=progress).total
    ends = np.cumsum([len(mine) for mine in texts])[:-1]
    return list(np.split(total.double().cpu().numpy(), ends, axis=1))


def rate(
    model: LanguageModel,
    prompts: Sequence[str],
    lanes: LanesLike,
    matches: Callable[[str], bool],
    *,
    title: str,
    sampling: Sampling | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Metric:
    """Share of generations for which `matches` is true, such as refusals; the base model is lane 0.

    Raises: as `decode`.
    """
    whole, tell = with_base(lanes), progress or silent()
    step, hits = max(1, batch_size // len(whole)), list[np.ndarray]()
    for start in range(0, len(prompts), step):
        part = tell.part(start / len(prompts), min(1.0, (start + step) / len(prompts)))
        found = generate(model, prompts[start : start + step], whole, sampling, progress=part)
        hits.append(np.array([[matches(one.text) for one in lane] for lane in found]))
    return share_metric("rate", title, np.concatenate(hits, 1), "neither")
