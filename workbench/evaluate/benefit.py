"""Does an edit do what its demonstrations ask for, on rows that no fit has seen?

Log-probabilities are summed over a continuation's tokens; a twin per token stands beside each score of choices, whose meaning is in
`choices`. They compare listed answers only; the probability of a true answer, Σ p(true) over distinct continuations, falls when an edit
makes the model say something else. Ref: docs/methods/shared.md §9.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.data.sides import SIDES, Side
from workbench.decode import Sampling, generate
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import LanesLike
from workbench.edits.prompting import Prompting
from workbench.errors import NotEnoughData
from workbench.evaluate import choices
from workbench.evaluate.budget import drawn
from workbench.evaluate.fitted_rows import HeldOut, without_fitted
from workbench.evaluate.metrics import Lanes, Metric, by_prompting, mean_metric, share_metric, with_base
from workbench.evaluate.sides import scored_sides, sides_in
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.score import batch_scores
from workbench.shapes import Bool, Float

_MOST_LABELS = 20
"""More distinct labels than this are free answers, not classes to choose among."""


@dataclass(frozen=True)
class Benefit:
    """Scores on demonstrations, and one row an item and lane for the table.

    `left_out` names the rows of the split that an edit was fitted on and that are therefore not scored; `why` says so, or what is not known
    about such rows.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    data: str
    split: str
    n: int
    metrics: tuple[Metric, ...]
    items: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...] = ()
    why: str = ""
    n_of: int = 0
    """Rows that could have been scored, where fewer were drawn; else 0."""

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
    most_rows: int | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Benefit:
    """Score the rows of a split (None: all) under each lane; the base model is lane 0.

    What is scored follows from the columns: pairs and references give MC1, P(truth) and the margin; rows of loss
    `balance` the imbalance; labels the accuracy; rows with nothing but a positive its log-probability; prompts of two sides
    without answers which side's texts are likelier. Rows that an edit was fitted on are
    left out of every lane, whatever split they are in by now; only who asks for split `fit` gets them, as what they are.

    Args:
        most_rows: so many at most, in the order of `budget.drawn`.

    Raises:
        NotEnoughData: the split has no row with any of these. FittedRows: it had, and all were fitted on. Others: as `engine.lanes`.
    """
    whole, tell = with_base(lanes), progress or silent()
    unseen = rows_scored(demonstrations, split, whole)
    rows = drawn(unseen.rows, most_rows)
    parts: list[Part] = []
    jobs = _jobs(rows, demonstrations)
    for index, (score, chosen) in enumerate(jobs):
        part = tell.part(index / len(jobs), (index + 1) / len(jobs))
        parts.append(score(model, chosen, whole, max(1, batch_size // len(whole)), part))
    if any(lane.prompting for lane in whole) and parts:
        parts.append(_prompt_tokens(model, rows, whole))
    if not parts:
        n, where = len({row.label for row in demonstrations if row.label}), f"of split {split or 'any'} in {demonstrations.name!r}"
        told = f"No row {where} has a positive or a label to score."
        if rows and any(row.label not in (None, *SIDES) for row in rows):
            told = f"The rows {where} have labels alone, {n} different in the set; 2 to {_MOST_LABELS} can be chosen among."
        hint = "Mark some rows as test, or fill their positive and negative columns; of two sets of prompts, mark some of both sides."
        raise NotEnoughData(told, hint)
    labels = lane_labels(whole)
    tags = {(row.id, str(row.prompt)): row.tags for row in rows}
    items = tuple(
        {**item, "lane": labels[item["lane"]].label, "tags": tags[item["id"], item["prompt"]]} for part in parts for item in part.items
    )
    metrics = tuple(metric for part in parts for metric in part.metrics)
    told = (unseen.left_out, unseen.why, len(unseen.rows) if len(rows) < len(unseen.rows) else 0)
    return Benefit(model.info.name, labels, demonstrations.name, split or "all", len(rows), metrics, items, *told)


def rows_scored(demonstrations: Demonstrations, split: Split | None, lanes: Lanes) -> HeldOut:
    """The rows of a split that no lane was fitted on or shows. Raises: FittedRows: there are none."""
    shown = [mark for lane in lanes if lane.prompting for mark in lane.prompting.marks]
    return without_fitted(demonstrations, split, [edit for lane in lanes for edit in edits_of(lane)], shown)


def length_of(row: Demonstration) -> float:
    """Characters that are read to score a row: its prompt once, and all its answers."""
    return float(len(str(row.prompt)) + sum(len(text) for side in references(row) for text in side) + len(row.label or ""))


Scorer = Callable[[LanguageModel, Any, Lanes, int, Progress], Part]


def _jobs(rows: Demonstrations, everything: Demonstrations) -> list[tuple[Scorer, Any]]:
    balanced = [row for row in rows if row.loss == "balance" and row.positive and row.negative]
    paired = [row for row in rows if row.loss != "balance" and all(references(row))]
    alone = [row for row in rows if row.positive and not references(row)[1] and row.label in (None, "", *SIDES)]
    labels = sorted({row.label for row in everything if row.label} - set(SIDES))
    labelled = [(row, labels) for row in rows if row.label in labels] if 2 <= len(labels) <= _MOST_LABELS else []
    jobs: list[tuple[Scorer, Any]] = [
        (_choices, paired), (_balance, balanced), (_labels, labelled), (_alone, alone), (_sides, sides_in(rows, everything))
    ]  # fmt: skip
    return [(score, chosen) for score, chosen in jobs if chosen]


def references(row: Demonstration) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """True and false continuations of a row: its pair first, then what its tags add."""

    def distinct(first: str | None, key: str) -> tuple[str, ...]:
        texts = [first] if first else []
        return tuple(dict.fromkeys(texts + [row.as_answer(text) for text in row.all_tagged(key)]))

    return distinct(row.positive, "true"), distinct(row.negative, "false")


def _choices(model: LanguageModel, rows: list[Demonstration], lanes: Lanes, batch: int, progress: Progress) -> Part:
    options = [references(row) for row in rows]
    texts = [(*true, *false) for true, false in options]
    answers = _scored(model, rows, texts, lanes, batch, progress)
    found: dict[str, list[np.ndarray]] = {}
    items: list[dict[str, Any]] = []
    for i, (row, (true, _), mine) in enumerate(zip(rows, options, answers)):
        n, values = len(true), dict[str, np.ndarray]()
        counted = choices.counted(mine.ids[:n]), [n + at for at in choices.counted(mine.ids[n:])]
        for twin, log_p in (("", mine.log_p), ("_per_token", mine.log_p / mine.n_tokens)):
            right, wrong = log_p[:, :n], log_p[:, n:]
            values[f"mc1{twin}"] = choices.mc1(right, wrong)
            values[f"mc2{twin}"] = choices.mc2(log_p[:, counted[0]], log_p[:, counted[1]])
            values[f"mc3{twin}"] = choices.mc3(right, wrong)
            values[f"margin_nats{twin}"] = choices.margin(right, wrong)
        values["p_answer"] = np.exp(mine.log_p[:, counted[0]]).sum(1)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
        for lane in range(len(lanes)):
            item: dict[str, Any] = {"id": row.id, "prompt": str(row.prompt), "lane": lane}
            item |= {"answer": texts[i][int(mine.log_p[lane].argmax())], "mc1": bool(values["mc1"][lane])}
            item |= {name: float(values[name][lane]) for name in ("mc2", "mc3", "p_answer", "margin_nats", "margin_nats_per_token")}
            items.append(item)
    return Part(tuple(_choice_metric(name, np.stack(columns, 1)) for name, columns in _ordered(found)), tuple(items))


_CHOICES = {
    "mc1": ("Best answer ahead (MC1)", ""),
    "mc2": ("P(truth) (MC2)", ""),
    "mc3": ("True answers ahead (MC3)", ""),
    "p_answer": ("Probability of a true answer", ""),
    "margin_nats": ("Margin of the best answer", "nats"),
    "margin_nats_per_token": ("Margin of the best answer, per token", "nats/token"),
    "mc1_per_token": ("Best answer ahead, per token (MC1)", ""),
    "mc2_per_token": ("P(truth), per token (MC2)", ""),
    "mc3_per_token": ("True answers ahead, per token (MC3)", ""),
}


def _ordered(found: dict[str, list[np.ndarray]]) -> list[tuple[str, list[np.ndarray]]]:
    return [(name, found[name]) for name in _CHOICES]


def _choice_metric(name: str, per_item: Bool[np.ndarray, "lane row"] | Float[np.ndarray, "lane row"]) -> Metric:
    title, unit = _CHOICES[name]
    if name.startswith("mc1"):
        return share_metric(name, title, per_item, "higher")
    return mean_metric(name, title, per_item, unit, "higher")


def _balance(model: LanguageModel, rows: list[Demonstration], lanes: Lanes, batch: int, progress: Progress) -> Part:
    texts = [(row.positive or "", row.negative or "") for row in rows]
    log_p = np.stack([mine.log_p for mine in _scored(model, rows, texts, lanes, batch, progress)], 1)
    signed = log_p[..., 0] - log_p[..., 1]
    items = [
        {"id": row.id, "prompt": str(row.prompt), "lane": lane, "log_ratio_nats": float(signed[lane, i])}
        for i, row in enumerate(rows)
        for lane in range(len(lanes))
    ]
    metrics = (
        mean_metric("imbalance_nats", "Imbalance of pairs", np.abs(signed), "nats", "lower"),
        share_metric("first_preferred", "First of the pair preferred", signed > 0, "neither"),
    )
    return Part(metrics, tuple(items))


def _labels(
    model: LanguageModel,
    rows: list[tuple[Demonstration, list[str]]],
    lanes: Lanes,
    batch: int,
    progress: Progress,
) -> Part:
    labels = rows[0][1]
    plain = [row for row, _ in rows]
    log_p = np.stack([mine.log_p for mine in _scored(model, plain, [tuple(labels)] * len(plain), lanes, batch, progress)], 1)
    truth = np.array([labels.index(row.label or "") for row in plain])
    hit = log_p.argmax(-1) == truth
    share = np.exp(log_p - log_p.max(-1, keepdims=True))
    p_label = (share / share.sum(-1, keepdims=True))[:, np.arange(len(plain)), truth]
    items: list[dict[str, Any]] = [
        {
            "id": row.id,
            "prompt": str(row.prompt),
            "lane": lane,
            "label": row.label,
            "answer": labels[int(log_p[lane, i].argmax())],
            "label_accuracy": bool(hit[lane, i]),
            "p_label": float(p_label[lane, i]),
        }
        for i, row in enumerate(plain)
        for lane in range(len(lanes))
    ]
    metrics = (
        share_metric("label_accuracy", "Labels right", hit, "higher"),
        mean_metric("p_label", "P(label)", p_label, "", "higher"),
    )
    return Part(metrics, tuple(items))


def _alone(model: LanguageModel, rows: list[Demonstration], lanes: Lanes, batch: int, progress: Progress) -> Part:
    texts = [(row.positive or "",) for row in rows]
    log_p = np.stack([mine.log_p for mine in _scored(model, rows, texts, lanes, batch, progress)], 1)[..., 0]
    items = [
        {"id": row.id, "prompt": str(row.prompt), "lane": lane, "log_prob_nats": float(log_p[lane, i])}
        for i, row in enumerate(rows)
        for lane in range(len(lanes))
    ]
    return Part((mean_metric("log_prob_nats", "Log-probability of the positive", log_p, "nats", "higher"),), tuple(items))


def _sides(model: LanguageModel, rows: list[tuple[Demonstration, Side]], lanes: Lanes, batch: int, progress: Progress) -> Part:
    return Part(*scored_sides(model, rows, lanes, batch, progress))


def _prompt_tokens(model: LanguageModel, rows: Demonstrations, lanes: Lanes) -> Part:
    """How many tokens each lane reads before the prompt itself: what prompting costs at every use, and an edit does not."""
    prompts = [row.prompt for row in rows]

    def lengths(said: Prompting | None) -> np.ndarray:
        return model.tokens([said.on(prompt) for prompt in prompts] if said else prompts).lengths.cpu().numpy().astype(float)

    plain, found = lengths(None), np.zeros((len(lanes), len(prompts)))
    for said, mine in by_prompting(lanes):
        found[mine] = lengths(said) - plain
    return Part((mean_metric("prompt_tokens", "Tokens before every prompt", found, "tokens", "lower"),), ())


@dataclass(frozen=True)
class _Answers:
    """The answers of one row: summed log-probabilities in nats, numbers of tokens, and the tokens themselves."""

    log_p: Float[np.ndarray, "lane answer"]
    n_tokens: Float[np.ndarray, " answer"]
    ids: list[list[int]]


def _scored(
    model: LanguageModel,
    rows: Sequence[Demonstration],
    texts: Sequence[Sequence[str]],
    lanes: Lanes,
    batch: int,
    progress: Progress,
) -> list[_Answers]:
    """Score every answer of every row; all run in one stream of batches."""
    prompts = [row.prompt for row, mine in zip(rows, texts) for _ in mine]
    answers = [text for mine in texts for text in mine]
    tokens = model.tokens(prompts, answers)
    ids = [row[mask].tolist()[n:] for row, mask, n in zip(tokens.ids, tokens.mask, tokens.n_prompt.tolist())]
    total, n_tokens = np.zeros((len(lanes), len(prompts))), np.array([len(one) for one in ids], dtype=float)
    groups = by_prompting(lanes)
    for i, (said, mine) in enumerate(groups):
        asked = tokens if said is None else model.tokens([said.on(prompt) for prompt in prompts], answers)
        part = progress.part(i / len(groups), (i + 1) / len(groups))
        scores = batch_scores(model, asked, [edits_of(lanes[lane]) for lane in mine], batch_size=batch, progress=part)
        total[mine] = scores.total.double().cpu().numpy()
    ends = np.cumsum([len(mine) for mine in texts])
    spans = [slice(end - len(mine), end) for mine, end in zip(texts, ends)]
    return [_Answers(total[:, span], n_tokens[span], ids[span]) for span in spans]


def rate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    lanes: LanesLike,
    matches: Callable[[str], bool],
    *,
    title: str,
    sampling: Sampling | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Metric:
    """Share of generations for which `matches` is true of the answer, such as refusals; what a model thinks before it does not count.

    The base model is lane 0.

    Raises: as `decode`.
    """
    whole, tell = with_base(lanes), progress or silent()
    step, hits = max(1, batch_size // len(whole)), list[np.ndarray]()
    for start in range(0, len(prompts), step):
        part = tell.part(start / len(prompts), min(1.0, (start + step) / len(prompts)))
        stacks, said = [edits_of(lane) for lane in whole], [lane.prompting for lane in whole]
        found = generate(model, prompts[start : start + step], stacks, sampling, said=said, progress=part)
        hits.append(np.array([[matches(one.said.answer) for one in lane] for lane in found]))
    return share_metric("rate", title, np.concatenate(hits, 1), "neither")
