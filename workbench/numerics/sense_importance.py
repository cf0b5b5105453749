"""Which senses an example reads: importance, its background, and the choice of the senses to train.

    raw[v,l]  = Σ_{t in rows} Σ_{j≤t, x_j=v} α[l,t,j]         rows: those that predict the continuation
    score     = raw − λ·background,   background[v,l] = mean over neutral chunks of raw(chunk, all rows)

Ref: docs/methods/senses.md §3.3; arXiv 2402.06155 Eq. 9.
Differs: a sense that is not read (raw ≤ 0) is never picked, and good-v-bad adds the two continuations as the paper
has it; the released code does otherwise (switches `pick_ineligible` and `gvb="subtract"`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.numerics.sense_affine import ReadText


@dataclass(frozen=True)
class Importance:
    """Read mass per (word type, sense), for the word types of some texts; `types` ascend."""

    types: Int[Tensor, " type"]
    mass: Float[Tensor, "type sense"]


def raw_importance(text: ReadText) -> Importance:
    """Return the mass that the rows read from each sense of each word type; it sums to |rows| for each sense."""
    senses = torch.arange(text.keys.shape[1], device=text.ids.device)
    read = text.weights(senses).sum(1).T  # (pos, sense)
    types, where = text.ids.unique(return_inverse=True)
    return Importance(types, torch.zeros(len(types), len(senses), dtype=read.dtype).index_add_(0, where, read))


def combined(first: Importance, second: Importance, sign: float = 1.0) -> Importance:
    """Return first + sign·second over the union of their word types."""
    types, where = torch.cat([first.types, second.types]).unique(return_inverse=True)
    mass = torch.zeros(len(types), first.mass.shape[1], dtype=first.mass.dtype)
    mass.index_add_(0, where, torch.cat([first.mass, sign * second.mass]))
    return Importance(types, mass)


def pair_importance(
    good: ReadText | None, bad: ReadText | None, is_good_v_bad: bool, gvb: Literal["add", "subtract"] = "add"
) -> Importance:
    """Return an example's raw importance from whichever of its continuations its loss reads."""
    parts = [raw_importance(text) for text in (good, bad) if text is not None]
    if len(parts) == 1:
        return parts[0]
    return combined(parts[0], parts[1], -1.0 if is_good_v_bad and gvb == "subtract" else 1.0)


def background(chunks: Sequence[ReadText], d_vocab: int) -> Float[Tensor, "d_vocab sense"]:
    """Return the mean raw importance over neutral chunks, for every word type."""
    total = chunks[0].h0.new_zeros(d_vocab, chunks[0].keys.shape[1])
    for chunk in chunks:
        found = raw_importance(chunk.predicting())
        total[found.types] += found.mass
    return total / len(chunks)


@dataclass(frozen=True)
class Pick:
    """A chosen sense: how much the example reads it, how much neutral text reads it, and the score of the two."""

    token: int
    sense: int
    raw: float
    background: float
    score: float


def picks(
    importance: Importance,
    neutral: Float[Tensor, "d_vocab sense"],
    top_k: int,
    penalty: float,
    n_tokens: int,
    pick_ineligible: bool = False,
) -> list[Pick]:
    """Return the senses of an example to train: the `top_k` best scores, ties to the smaller token, then the smaller
    sense.

    Args:
        importance: the example's raw importance.
        neutral: the background.
        top_k: how many at most; fewer when fewer are read.
        penalty: λ, the price of one unit of background mass.
        n_tokens: the tokenizer's true size; padding rows are never chosen.
        pick_ineligible: as released: where too few senses are read, fill up with unread ones in order of token and
        sense.
    """
    n_senses = importance.mass.shape[1]
    known = importance.types < n_tokens
    types, mass = importance.types[known], importance.mass[known]
    base = neutral[types].to(mass.dtype)
    score = (mass - penalty * base).flatten()
    # Types ascend, so a stable descending sort breaks ties as documented.
    order = torch.where(mass.flatten() > 0, score, -torch.inf).sort(descending=True, stable=True).indices[:top_k]
    order = order[mass.flatten()[order] > 0]
    chosen = [
        Pick(int(types[i // n_senses]), i % n_senses, mass.flatten()[i].item(), base.flatten()[i].item(), score[i].item())
        for i in order.tolist()
    ]
    return chosen + _unread(chosen, neutral, top_k - len(chosen), n_tokens) if pick_ineligible else chosen


def _unread(chosen: Sequence[Pick], neutral: Tensor, n_more: int, n_tokens: int) -> list[Pick]:
    taken = {(pick.token, pick.sense) for pick in chosen}
    every = ((token, sense) for token in range(n_tokens) for sense in range(neutral.shape[1]))
    free = (pair for pair in every if pair not in taken)
    return [Pick(*pair, 0.0, neutral[pair].item(), -torch.inf) for _, pair in zip(range(n_more), free, strict=False)]
