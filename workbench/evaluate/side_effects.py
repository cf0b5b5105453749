"""What an edit breaks: neutral text, repetition, and abilities that it should leave alone.

KL is KL(p_base ‖ p_edited) in nats a token on neutral text, teacher-forced. The perplexity ratio is
exp(NLL_edited − NLL_base) a token. Repetition-4 is the share of repeated 4-grams of tokens in greedy continuations; thinking before
an answer does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.decode import Sampling, generate
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import LanesLike, lanes_of
from workbench.errors import NotEnoughData
from workbench.evaluate.benefit import Benefit, benefit
from workbench.evaluate.divergences import divergences_of
from workbench.evaluate.metrics import Metric, mean_metric, with_base
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.shapes import Float

_NONE: Mapping[str, Demonstrations] = MappingProxyType({})
_OPENING_WORDS = 6


@dataclass(frozen=True)
class SideEffects:
    """Damage of each lane; lane 0 is the base model. `capability` holds scores on sets that the edit is not about."""

    model: str
    lanes: tuple[LaneLabel, ...]
    n_texts: int
    n_tokens: int
    metrics: tuple[Metric, ...]
    capability: Mapping[str, Benefit]

    def metric(self, name: str) -> Metric:
        """The metric of a name (a KeyError if there is none: names are this package's own)."""
        return {item.name: item for item in self.metrics}[name]


def side_effects(
    model: LanguageModel,
    neutral: Sequence[str],
    lanes: LanesLike,
    *,
    capability: Mapping[str, Demonstrations] = _NONE,
    n_generations: int = 16,
    max_new_tokens: int = 40,
    progress: Progress | None = None,
) -> SideEffects:
    """Measure what each stack of edits does to neutral text, to repetition, and to unrelated abilities.

    The first score of each set in `capability` stands among the metrics, as `<set>_<score>`.

    Raises:
        NotEnoughData: no neutral text of two tokens or more. Others: as `engine.lanes`.
    """
    whole, tell = with_base(lanes), progress or silent()
    kl, nll, n_tokens = neutral_losses(model, neutral, list(whole), progress=tell.part(0.0, 0.5))
    metrics = [
        mean_metric("kl_nats", "KL on neutral text", kl, "nats/token", "lower", weights=n_tokens),
        mean_metric("perplexity_ratio", "Perplexity ratio", nll - nll[0], "", "lower", weights=n_tokens, link="exp"),
    ]
    if n_generations > 0:
        openings = [" ".join(text.split()[:_OPENING_WORDS]) for text in neutral[:n_generations]]
        repeated = repetition(model, openings, list(whole), max_new_tokens, progress=tell.part(0.5, 0.8))
        metrics.append(mean_metric("repetition_4", "Repetition of 4-grams", repeated, "", "lower"))
    found: dict[str, Benefit] = {}
    edits = [edit for lane in whole for edit in edits_of(lane)]
    for index, (name, rows) in enumerate(capability.items()):
        if not len(rows.not_among({mark for edit in edits for mark in edit.header.rows})):
            continue  # an ability that was fitted is none that the edit should leave alone
        part = tell.part(0.8 + 0.2 * index / len(capability), 0.8 + 0.2 * (index + 1) / len(capability))
        found[name] = benefit(model, rows, list(whole), split=None, progress=part)
        score = found[name].metrics[0]
        metrics.append(replace(score, name=f"{name}_{score.name}", title=f"{name.capitalize()}, {score.title[0].lower()}{score.title[1:]}"))
    tell(1.0, "Done")
    texts = len(n_tokens)
    return SideEffects(model.info.name, lane_labels(whole), texts, int(n_tokens.sum()), tuple(metrics), MappingProxyType(found))


def neutral_losses(
    model: LanguageModel, neutral: Sequence[str], lanes: LanesLike, *, progress: Progress | None = None
) -> tuple[Float[np.ndarray, "lane text"], Float[np.ndarray, "lane text"], Float[np.ndarray, " text"]]:
    """Return mean KL to lane 0 and mean NLL a predicted token (nats) of each lane and text, and tokens of each text.

    Raises:
        NotEnoughData: no neutral text of two tokens or more. Others: as `engine.lanes`.
    """
    tell = progress or silent()
    batch = model.tokens(list(neutral)) if neutral else None
    if batch is None or not bool((batch.lengths >= 2).any()):
        raise NotEnoughData(
            f"Got {len(neutral)} neutral texts, and none of two tokens or more.",
            "Give a few neutral texts: a set with a filled neutral column will do.",
        )
    batch = batch.rows(batch.lengths >= 2)
    found = divergences_of(model, batch, lanes_of(lanes), progress=tell)
    n_tokens = (batch.lengths - 1).double().cpu().numpy()
    return found.a_row(found.kl, len(batch)).numpy(), found.a_row(found.nll, len(batch)).numpy(), n_tokens


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
