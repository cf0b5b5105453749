"""What an edit breaks: neutral text, the model's own answers, repetition, and abilities that it should leave alone.

KL is KL(p_base ‖ p_edited) in nats a token, teacher-forced, its mean and its 95th percentile over tokens. The perplexity ratio is
exp(NLL_edited − NLL_base) a token. Repetition-4 is the share of repeated 4-grams of tokens in greedy continuations, thinking left out.
Ref: docs/methods/shared.md §9.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.decode import Sampling, generate
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import LanesLike, lanes_of
from workbench.errors import NotEnoughData
from workbench.evaluate.benefit import Benefit, benefit, references
from workbench.evaluate.divergences import divergences_of
from workbench.evaluate.metrics import Metric, mean_metric, tail_metric, with_base
from workbench.evaluate.own_answers import answer_divergences, own_answers
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.score import Divergences
from workbench.shapes import Float, Int

_NONE: Mapping[str, Demonstrations] = MappingProxyType({})
_OPENING_WORDS = 6


@dataclass(frozen=True)
class SideEffects:
    """Damage of each lane; lane 0 is the base model. `capability` holds scores on sets that the edit is not about.

    `notes` names the sets on which the base is no better than chance: those have no metric, since it would mean nothing.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    n_texts: int
    n_tokens: int
    metrics: tuple[Metric, ...]
    capability: Mapping[str, Benefit]
    notes: tuple[str, ...] = ()

    def metric(self, name: str) -> Metric:
        """The metric of a name (a KeyError if there is none: names are this package's own)."""
        return {item.name: item for item in self.metrics}[name]


def side_effects(
    model: LanguageModel,
    neutral: Sequence[str],
    lanes: LanesLike,
    *,
    own: Sequence[Prompt] = (),
    capability: Mapping[str, Demonstrations] = _NONE,
    n_generations: int = 16,
    max_new_tokens: int = 40,
    progress: Progress | None = None,
) -> SideEffects:
    """Measure what each stack of edits does to neutral text, to the model's own answers, to repetition, and to unrelated abilities.

    The first score of each set in `capability` stands among the metrics, as `<set>_<score>`.

    Args:
        own: prompts to which the unedited model answers; on its answers the same is measured as on neutral text.

    Raises:
        NotEnoughData: no neutral text of two tokens or more. Others: as `engine.lanes`.
    """
    whole, tell = with_base(lanes), progress or silent()
    found = _neutral(model, neutral, list(whole), tell.part(0.0, 0.4))
    n_tokens, nll = found.n_tokens, found.nll
    metrics = [
        *_moved("kl", "KL on neutral text", found),
        mean_metric("perplexity_ratio", "Perplexity ratio", nll - nll[0], "", "lower", weights=n_tokens, link="exp"),
    ]
    answers = own_answers(model, own, progress=tell.part(0.4, 0.43)) if own else None
    if answers and answers.ids:
        told = answer_divergences(model, answers, list(whole), progress=tell.part(0.43, 0.5))
        metrics += _moved("own_kl", "KL on its own answers", _Moves.of(told, len(answers.ids)))
    if n_generations > 0:
        openings = [" ".join(text.split()[:_OPENING_WORDS]) for text in neutral[:n_generations]]
        repeated = repetition(model, openings, list(whole), max_new_tokens, progress=tell.part(0.5, 0.8))
        metrics.append(mean_metric("repetition_4", "Repetition of 4-grams", repeated, "", "lower"))
    abilities, notes = dict[str, Benefit](), list[str]()
    edits = [edit for lane in whole for edit in edits_of(lane)]
    for index, (name, rows) in enumerate(capability.items()):
        if not len(rows.not_among({mark for edit in edits for mark in edit.header.rows})):
            continue  # an ability that was fitted is none that the edit should leave alone
        part = tell.part(0.8 + 0.2 * index / len(capability), 0.8 + 0.2 * (index + 1) / len(capability))
        abilities[name] = benefit(model, rows, list(whole), split=None, progress=part)
        score, guess = abilities[name].metrics[0], chance(rows)
        if score.is_share and score.values[0].low <= guess:
            hits = round(score.values[0].estimate * score.n)
            notes.append(f"{name.capitalize()}: without an edit {hits} of {score.n} are right, no better than chance; no score is shown.")
            continue
        told = f"{name.capitalize()}, {score.title[0].lower()}{score.title[1:]}"
        metrics.append(replace(score, name=f"{name.replace(' ', '_')}_{score.name}", title=told))
    tell(1.0, "Done")
    texts = len(n_tokens)
    return SideEffects(
        model.info.name, lane_labels(whole), texts, int(n_tokens.sum()), tuple(metrics), MappingProxyType(abilities), tuple(notes)
    )


def chance(rows: Demonstrations) -> float:
    """The share of rows that a guess among the best answer and all false ones, or among the labels, gets right; 0 where nobody chooses."""
    n_false = [len(references(row)[1]) for row in rows]
    n_labels = len({row.label for row in rows if row.label})
    return sum(1 / (1 + n) if n else 1 / n_labels if n_labels else 0.0 for n in n_false) / max(1, len(rows))


@dataclass(frozen=True)
class _Moves:
    """How far lanes are moved on some texts: token by token, and as means a token of each text, in nats."""

    kl_per_token: Float[np.ndarray, "lane token"]
    texts: Int[np.ndarray, " token"]
    kl: Float[np.ndarray, "lane text"]
    nll: Float[np.ndarray, "lane text"]
    n_tokens: Float[np.ndarray, " text"]

    @classmethod
    def of(cls, found: Divergences, n_texts: int) -> Self:
        n_tokens = torch.bincount(found.row, minlength=n_texts).double()
        kl, nll = (found.a_row(x, n_texts).numpy() for x in (found.kl, found.nll))
        return cls(found.kl.numpy(), found.row.numpy(), kl, nll, n_tokens.numpy())


def _moved(name: str, title: str, found: _Moves) -> list[Metric]:
    """The mean and the tail of how far each lane is moved."""
    mean = mean_metric(f"{name}_nats", title, found.kl, "nats/token", "lower", weights=found.n_tokens)
    # No KL is below 0, whatever the interval of a skewed mean allows.
    mean = replace(mean, values=tuple(one if one.withheld else replace(one, low=max(0.0, one.low)) for one in mean.values))
    tail = f"{title}, 95th percentile of tokens"
    return [mean, tail_metric(f"{name}_p95_nats", tail, found.kl_per_token, found.texts, "nats/token")]


def neutral_losses(
    model: LanguageModel, neutral: Sequence[str], lanes: LanesLike, *, progress: Progress | None = None
) -> tuple[Float[np.ndarray, "lane text"], Float[np.ndarray, "lane text"], Float[np.ndarray, " text"]]:
    """Return mean KL to lane 0 and mean NLL a predicted token (nats) of each lane and text, and tokens of each text.

    Raises:
        NotEnoughData: no neutral text of two tokens or more. Others: as `engine.lanes`.
    """
    found = _neutral(model, neutral, lanes, progress or silent())
    return found.kl, found.nll, found.n_tokens


def _neutral(model: LanguageModel, neutral: Sequence[str], lanes: LanesLike, tell: Progress) -> _Moves:
    batch = model.tokens(list(neutral)) if neutral else None
    if batch is None or not bool((batch.lengths >= 2).any()):
        raise NotEnoughData(
            f"Got {len(neutral)} neutral texts, and none of two tokens or more.",
            "Give a few neutral texts: a set with a filled neutral column will do.",
        )
    batch = batch.rows(batch.lengths >= 2)
    return _Moves.of(divergences_of(model, batch, lanes_of(lanes), progress=tell), len(batch))


def repetition(
    model: LanguageModel,
    openings: Sequence[str],
    lanes: LanesLike,
    max_new_tokens: int = 40,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Float[np.ndarray, "lane opening"]:
    """Share of repeated 4-grams in each greedy continuation, without what was thought before it. Raises: as `decode`."""
    whole = lanes_of(lanes)
    tell, step = progress or silent(), max(1, batch_size // len(whole))
    stacks, said = [edits_of(lane) for lane in whole], [lane.prompting for lane in whole]
    found: list[np.ndarray] = []
    for start in range(0, len(openings), step):
        part = tell.part(start / len(openings), min(1.0, (start + step) / len(openings)))
        how = Sampling(max_new_tokens=max_new_tokens)
        texts = generate(model, openings[start : start + step], stacks, how, said=said, progress=part)
        found.append(np.array([[repetition_4(one.answer_ids) for one in lane] for lane in texts]))
    return np.concatenate(found, 1)


def repetition_4(ids: Sequence[int]) -> float:
    """1 − distinct 4-grams / 4-grams; 0 for fewer than four tokens."""
    grams = [tuple(ids[i : i + 4]) for i in range(len(ids) - 3)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0
