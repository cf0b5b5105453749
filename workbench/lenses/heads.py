"""What kind of head is it? Previous-token, duplicate-token and induction heads on text with repetitions; name movers on a prompt.

The patterns to look for are TransformerLens's (`head_detector`). A head's score is the share of its attention, from the
tokens that have such a place at all, that goes there; `chance` is the score of a head that attends evenly.
Ref: induction heads, arXiv 2209.11895; name movers, arXiv 2211.00593.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadPrompt
from workbench.lenses import registry
from workbench.lenses.bridged import bridged, shown_to
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

HEAD_KINDS = ("previous token", "duplicate token", "induction")
_PATTERNS = {
    "previous token": get_previous_token_head_detection_pattern,
    "duplicate token": get_duplicate_token_head_detection_pattern,
    "induction": get_induction_head_detection_pattern,
}


@dataclass(frozen=True)
class HeadScores:
    """Scores in [0, 1] of every head for every kind, mean over `n` texts, with the standard error of that mean."""

    model: str
    lanes: tuple[LaneLabel, ...]
    kinds: tuple[str, ...]
    scores: Float[np.ndarray, "lane kind layer head"]
    errors: Float[np.ndarray, "lane kind layer head"]
    chance: Float[np.ndarray, " kind"]
    n: int
    seed: int | None

    def top(self, kind: str, k: int = 5, lane: int = 0) -> list[tuple[int, int, float]]:
        """The k heads with the highest score of a kind: (layer, head, score)."""
        scores = self.scores[lane, self.kinds.index(kind)]
        order = np.argsort(-scores, axis=None)[:k]
        return [(int(i // scores.shape[1]), int(i % scores.shape[1]), float(scores.flat[i])) for i in order]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a lane, layer and head."""
        return [
            {"lane": lane.label, "layer": layer, "head": head}
            | {kind: float(self.scores[i, k, layer, head]) for k, kind in enumerate(self.kinds)}
            for i, lane in enumerate(self.lanes)
            for layer in range(self.scores.shape[2])
            for head in range(self.scores.shape[3])
        ]


def head_scores(
    model: LanguageModel,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    texts: Sequence[str] | None = None,
    n: int = 8,
    length: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadScores:
    """Score every head under each stack of edits, on given texts or on `n` random sequences of `length` tokens, said twice.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: no text repeats a token, or none is given.
    """
    owner, tell = bridged(model, "head_scores"), progress or silent()
    batches = repeated_texts(owner, n, length, seed) if texts is None else [owner.tokens(text) for text in texts]
    wanted = [{kind: _places(kind, batch.ids) for kind in HEAD_KINDS} for batch in batches]
    if not batches or any(not any(bool(w[kind].any()) for w in wanted) for kind in HEAD_KINDS):
        raise BadPrompt("No text repeats a token, so no head can look back to it.", "Give texts in which words come again.")
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(owner.info.n_layers)]
    lanes: list[np.ndarray] = []
    for i, stack in enumerate(stacks):
        found: list[np.ndarray] = []
        for j, (batch, places) in enumerate(zip(batches, wanted)):
            tell((i + j / len(batches)) / len(stacks), "Reading heads")
            read: Callable[[Tensor], np.ndarray] = partial(attended, wanted=list(places.values()))
            scored = shown_to(owner, batch, stack, dict.fromkeys(names, read))
            found.append(np.stack([scored[name] for name in names], 1))
        lanes.append(np.stack(found))
    every = np.stack(lanes)  # lane text kind layer head
    counts = np.maximum(1, (~np.isnan(every)).sum(1))
    chance = np.array([np.nanmean([_chance(w[kind]) for w in wanted]) for kind in HEAD_KINDS])
    errors = np.nanstd(every, 1) / np.sqrt(counts)
    tell(1.0, "Done")
    return HeadScores(
        owner.info.name, lane_labels(stacks), HEAD_KINDS, np.nanmean(every, 1), errors, chance, len(batches), None if texts else seed
    )


def repeated_texts(model: LanguageModel, n: int, length: int, seed: int) -> list[TokenBatch]:
    """Sequences r r of distinct random tokens, behind the tokenizer's own first token where it has one."""
    start: list[int] = [] if model.tokenizer.bos_token_id is None else [int(model.tokenizer.bos_token_id)]
    special = set(model.tokenizer.all_special_ids)
    usable = [i for i in range(min(len(model.tokenizer), model.info.d_vocab)) if i not in special]
    size = min(length, len(usable), (model.info.n_ctx - len(start)) // 2)
    draw = torch.Generator().manual_seed(seed)
    found: list[TokenBatch] = []
    for _ in range(n):
        once = [usable[i] for i in torch.randperm(len(usable), generator=draw)[:size].tolist()]
        found.append(TokenBatch.of([[*start, *once, *once]], None, model.device))
    return found


def attended(pattern: Float[Tensor, "1 head pos pos"], wanted: Sequence[Tensor]) -> Float[np.ndarray, "kind head"]:
    """What share of its attention each head of a layer pays to the places (query, key) of each kind; NaN where there are none."""
    heads = pattern[0].float().cpu()
    return np.stack([_scores(heads, places) for places in wanted])


def places_of(ids: Tensor) -> tuple[list[Tensor], Float[np.ndarray, " kind"]]:
    """Where a head of each of `HEAD_KINDS` looks in a text (query, key), and the score of one that attends evenly; NaN where nowhere."""
    wanted = [_places(kind, ids) for kind in HEAD_KINDS]
    return wanted, np.array([_chance(places) for places in wanted])


def _places(kind: str, ids: Tensor) -> Tensor:
    """1 where a head of this kind would look (query, key)."""
    pattern = _PATTERNS[kind](ids.cpu())
    return pattern.fill_diagonal_(0)


def _scores(heads: Float[Tensor, "head pos pos"], places: Tensor) -> Float[np.ndarray, " head"]:
    queries = places.any(1)
    if not bool(queries.any()):
        return np.full(len(heads), np.nan)
    options: dict[str, Any] = {"exclude_bos": False, "exclude_current_token": False, "error_measure": "mul"}
    asked = heads * queries[:, None]
    return np.array([compute_head_attention_similarity_score(head, detection_pattern=places, **options) for head in asked])


def _chance(places: Tensor) -> float:
    queries = places.any(1)
    visible = torch.arange(1, len(places) + 1)
    return float((places.sum(1) / visible)[queries].mean()) if bool(queries.any()) else float("nan")


@dataclass(frozen=True)
class NameMovers:
    """How much each head looks from the last token to a name, and pushes the name over a distractor there.

    `attention` is the share on all places of the target; `push` its direct attribution to the logit difference.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    target: str
    distractor: str
    attention: Float[np.ndarray, "lane layer head"]
    push: Float[np.ndarray, "lane layer head"]


def name_movers(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    progress: Progress | None = None,
) -> NameMovers:
    """Find heads that carry a name from the prompt to the answer.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: the target does not stand in the prompt.
    """
    # Here, because attribution needs this module's neighbours only for this lens.
    from workbench.lenses.attribution import direct_attribution
    from workbench.models.token_texts import one_token, token_texts

    registry.require("name_movers", model)
    tell = progress or silent()
    looked = looks_at(model, prompt, target, stacks, progress=tell.part(0.0, 0.5))
    pushed = direct_attribution(model, prompt, target, distractor, stacks, unit="head", progress=tell.part(0.5, 1.0))
    n = model.info.n_layers * model.info.n_heads
    push = pushed.values[:, :n].reshape(len(stacks), model.info.n_layers, model.info.n_heads)
    told = token_texts(model.tokenizer, [one_token(model, target), one_token(model, distractor)])
    return NameMovers(model.info.name, pushed.lanes, told[0], told[1], looked, push)


def looks_at(
    model: LanguageModel, prompt: Prompt, target: str, stacks: Sequence[Sequence[Edit]] = ((),), *, progress: Progress | None = None
) -> Float[np.ndarray, "lane layer head"]:
    """What share of its attention each head pays from the last token to all places of a word.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: the word does not stand in the prompt, or is not one token.
    """
    from workbench.models.token_texts import one_token

    tell, owner, batch = progress or silent(), bridged(model), model.tokens(prompt)
    places = (batch.ids[0] == one_token(model, target)).cpu().numpy()
    if not places.any():
        raise BadPrompt(f"{target!r} does not stand in the prompt.", "Give the name as it stands there, with its leading space.")
    names, found = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.info.n_layers)], list[np.ndarray]()
    for i, stack in enumerate(stacks):
        tell(i / len(stacks), "Reading attention")
        read = shown_to(owner, batch, stack, dict.fromkeys(names, lambda x: x[0, :, -1].float().cpu().numpy()[:, places].sum(-1)))
        found.append(np.stack([read[name] for name in names]))
    return np.stack(found)
