"""Collect the token pairs on which HPR trains: answers of equal prompts, aligned by index (docs/methods/hpr.md §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.methods.shared.neutral import sampled_positions
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.angle_training import PairRows
from workbench.progress import Progress
from workbench.record import gather
from workbench.shapes import Bool, Int, Tensor
from workbench.sites import Site

N_NEUTRAL_TOKENS = 2048


@dataclass(frozen=True)
class Pair:
    """One question with one good and one bad answer."""

    prompt: Prompt
    positive: str
    negative: str


@dataclass(frozen=True)
class Alike:
    """When two activations are too alike to be a pair: nearer than `distance` of their length, or this share of coordinates identical."""

    distance: float
    coordinates: float | None = None

    def __call__(self, good: Tensor, bad: Tensor) -> Bool[Tensor, "layer pair"]:
        if self.coordinates is not None:
            return (good == bad).double().mean(-1) >= self.coordinates
        return (good - bad).norm(dim=-1) <= self.distance * good.norm(dim=-1)


def pairs_of(rows: Demonstrations, references: bool, limit: int, seed: int) -> list[Pair]:
    """All (good, bad) answers of each row, at most `limit` drawn with the seed; without `references` one pair a row."""
    found = [
        Pair(row.prompt, good, bad)
        for row in rows
        for good in _answers(row, row.positive, "true", references)
        for bad in _answers(row, row.negative, "false", references)
    ]
    if len(found) <= limit:
        return found
    picked = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:limit].sort().values
    return [found[int(i)] for i in picked]


def _answers(row: Demonstration, own: str | None, key: str, references: bool) -> tuple[str, ...]:
    more = [row.as_answer(text) for text in row.all_tagged(key)] if references else []
    return tuple(dict.fromkeys([*([own] if own else []), *more]))


def split_by_question(rows: Demonstrations, seed: int, share: float = 0.2) -> tuple[Demonstrations, Demonstrations]:
    """Rows to train on and rows to check on, when none are marked validation; rows of one prompt stay together."""
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {prompts[i] for i in order[: max(1, round(share * len(prompts)))]}
    return rows.where(lambda row: row.prompt not in held), rows.where(lambda row: row.prompt in held)


def pair_rows(
    model: LanguageModel,
    pairs: Sequence[Pair],
    neutral: Sequence[str],
    sites: Sequence[Site],
    read: Literal["each", "last"],
    alike: Alike,
    limit: int,
    seed: int,
    progress: Progress,
) -> PairRows:
    """Read the activations of all pairs at all sites, float32. Memory: 8 d bytes a token pair and site."""
    good = model.tokens([pair.prompt for pair in pairs], [pair.positive for pair in pairs])
    bad = model.tokens([pair.prompt for pair in pairs], [pair.negative for pair in pairs])
    n_shared = torch.minimum(good.lengths - good.n_prompt, bad.lengths - bad.n_prompt)
    found = [
        gather(model, batch, sites, _positions(batch, n_shared, read), progress=progress.part(0.4 * i, 0.4 * i + 0.4))
        for i, batch in enumerate((good, bad))
    ]
    x_good, x_bad = (torch.stack([one[site].float() for site in sites]) for one in found)
    if x_good.shape[1] > limit:
        kept = torch.randperm(x_good.shape[1], generator=torch.Generator().manual_seed(seed))[:limit].sort().values.to(x_good.device)
        x_good, x_bad = x_good[:, kept], x_bad[:, kept]
    calm = x_good[:, :0]
    if neutral:
        batch = model.tokens(list(neutral))
        mask = sampled_positions(batch.mask, N_NEUTRAL_TOKENS, seed)
        calm = torch.stack([x.float() for x in gather(model, batch, sites, mask, progress=progress.part(0.8, 1.0)).values()])
    return PairRows(x_good, x_bad, calm, ~alike(x_good, x_bad))


def _positions(batch: TokenBatch, n_shared: Int[Tensor, " batch"], read: str) -> Bool[Tensor, "batch pos"]:
    if read == "last":
        return batch.mask & (batch.positions == batch.lengths[:, None] - 1)
    at = batch.positions - batch.n_prompt[:, None]
    return batch.mask & (at >= 0) & (at < n_shared[:, None])
