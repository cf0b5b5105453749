"""A Backpack under a sense edit, without running the Backpack again.

The contextualisation weights α do not depend on the senses, so for a table δ of added sense vectors, of any text,

    h_t = h⁰_t + Σ_{(v,l)} a_t(v,l) δ[v,l],   a_t(v,l) = Σ_{j≤t, x_j=v} α[l,t,j],   logits_t = E h_t

exactly. One forward per text gives h⁰ and what α needs; a loss gradient is then ∂L/∂δ = aᵀ(ΓE) with Γ = ∂L/∂logits,
and ΓE = Σ_t c_t(E[p_t] − τ_t) for every loss here: E[p] is the mean embedding under the model's prediction, τ the
embedding of the target, or the mean embedding under the unedited prediction for KL(p0‖p).

Ref: docs/methods/senses.md §3.4; gradient: arXiv 2402.06155 Eq. 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS_AT_ONCE = 2048  # rows × d_vocab logits are the largest tensor here


@dataclass(frozen=True)
class ReadText:
    """What a Backpack read in one text: enough to know every effect of a sense edit on the chosen rows.

    Row t predicts token t+1; rows ascend. `neutral` is the mean embedding under the unedited prediction, for KL terms.
    """

    ids: Int[Tensor, " pos"]
    rows: Int[Tensor, " row"]
    h0: Float[Tensor, "row d_model"]
    queries: Float[Tensor, "row sense d_weight_head"]
    keys: Float[Tensor, "pos sense d_weight_head"]
    neutral: Float[Tensor, "row d_model"] | None = None

    @property
    def targets(self) -> Int[Tensor, " row"]:
        """The token after each row; 0 after the last token, where nothing is predicted."""
        return torch.nn.functional.pad(self.ids, (0, 1))[self.rows + 1]

    def predicting(self) -> ReadText:
        """Return this text without the row of its last token, which predicts nothing."""
        n = int((self.rows < len(self.ids) - 1).sum())
        neutral = None if self.neutral is None else self.neutral[:n]
        return ReadText(self.ids, self.rows[:n], self.h0[:n], self.queries[:n], self.keys, neutral)

    def weights(self, senses: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen row pos"]:
        """Return α[l, t, j] for the chosen senses and the text's rows."""
        d = self.queries.shape[-1]
        scores = (self.queries[:, senses].transpose(0, 1) / math.sqrt(d)) @ self.keys[:, senses].permute(1, 2, 0)
        future = torch.arange(len(self.ids), device=self.ids.device)[None] > self.rows[:, None]
        return scores.masked_fill_(future, -math.inf).softmax(-1)


@dataclass(frozen=True)
class SenseSelection:
    """The senses to be trained: pair i is sense `sense_ids[i]` of word type `token_ids[i]`."""

    token_ids: Int[Tensor, " chosen"]
    sense_ids: Int[Tensor, " chosen"]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> SenseSelection:
        """Sort and deduplicate (token, sense) pairs."""
        table = torch.tensor(sorted(set(pairs)), dtype=torch.long).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])

    def __len__(self) -> int:
        return len(self.token_ids)

    def same(self, other: SenseSelection) -> bool:
        """Say whether the other one holds the same pairs in the same order."""
        return torch.equal(self.token_ids, other.token_ids) and torch.equal(self.sense_ids, other.sense_ids)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the (token, sense) pairs in order."""
        return list(zip(self.token_ids.tolist(), self.sense_ids.tolist(), strict=True))


@dataclass(frozen=True)
class AffineText:
    """A text's rows as affine functions of the table: h = h0 + a·δ[index]."""

    h0: Float[Tensor, "row d_model"]
    a: Float[Tensor, "row here"]
    index: Int[Tensor, " here"]
    targets: Int[Tensor, " row"]
    neutral: Float[Tensor, "row d_model"] | None = None

    def h(self, delta: Float[Tensor, "chosen d_model"]) -> Float[Tensor, "row d_model"]:
        """Return the edited vectors before the unembedding."""
        return torch.addmm(self.h0, self.a, delta[self.index]) if len(self.index) else self.h0


def affine(text: ReadText, selection: SenseSelection, touched_only: bool = False) -> AffineText:
    """Return a text as an affine function of the selected senses.

    Args:
        text: a read text.
        selection: the senses of the table.
        touched_only: leave out rows before the first selected word type, whose prediction no δ can change.
    """
    last = int(text.rows[-1])
    token_ids, sense_ids = (ids.to(text.ids.device) for ids in (selection.token_ids, selection.sense_ids))
    index = torch.isin(token_ids, text.ids[: last + 1]).nonzero()[:, 0]
    tokens, which_token = token_ids[index].unique(return_inverse=True)
    senses, which_sense = sense_ids[index].unique(return_inverse=True)
    is_token = text.ids[:, None] == tokens[None]  # (pos, tokens)
    mass = text.weights(senses) @ is_token.to(text.h0.dtype)  # (senses, row, tokens)
    a = mass[which_sense, :, which_token].T  # (row, here)
    if touched_only:
        positions = is_token.any(1).nonzero()[:, 0]
        first = int(positions[0]) if len(positions) else last + 1
        keep = text.rows >= first
        neutral = None if text.neutral is None else text.neutral[keep]
        return AffineText(text.h0[keep], a[keep].contiguous(), index, text.targets[keep], neutral)
    return AffineText(text.h0, a.contiguous(), index, text.targets, text.neutral)


def nll_rows(
    texts: Sequence[AffineText], delta: Float[Tensor, "chosen d_model"], E: Float[Tensor, "d_vocab d_model"]
) -> list[Float[Tensor, " _row"]]:
    """Return each text's NLL per row (nats) under the table δ, in the order given; rows are batched across texts."""
    if not texts:
        return []
    h = torch.cat([text.h(delta) for text in texts])
    targets = torch.cat([text.targets for text in texts])
    found = [
        torch.nn.functional.cross_entropy(some @ E.T, wanted, reduction="none")
        for some, wanted in zip(h.split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE), strict=True)
    ]
    return list(torch.cat(found).split([len(text.targets) for text in texts]))


def kl_rows(
    text: AffineText, delta: Float[Tensor, "chosen d_model"], E: Float[Tensor, "d_vocab d_model"], reverse: bool = False
) -> Float[Tensor, " row"]:
    """Return KL(p0‖p) per row in nats, or KL(p‖p0) when reversed."""
    log_p0, log_p = (text.h0 @ E.T).log_softmax(-1), (text.h(delta) @ E.T).log_softmax(-1)
    if reverse:
        log_p0, log_p = log_p, log_p0
    return (log_p0.exp() * (log_p0 - log_p)).sum(-1)


def mean_embedding(h: Float[Tensor, "row d_model"], E: Float[Tensor, "d_vocab d_model"]) -> Float[Tensor, "row d_model"]:
    """Return Σ_v p(v) E[v] with p = softmax(E h)."""
    return torch.cat([(some @ E.T).softmax(-1) @ E for some in h.split(ROWS_AT_ONCE)])


def ensemble_logits(
    big: Float[Tensor, "row d_vocab"],
    shift: Float[Tensor, "row d_model"],
    E: Float[Tensor, "d_vocab_backpack d_model"],
    beta: float,
    n_shared: int,
) -> Float[Tensor, "row shared"]:
    """Lend a Backpack's edit to another model with the same tokenizer.

    logits = logits_big + β (h_edited − h⁰) Eᵀ over the shared vocabulary; constants per position vanish in the softmax.

    Args:
        big: the other model's logits.
        shift: h_edited − h⁰ of the Backpack at the same positions.
        beta: 0 is the other model, 1 the full edit.
        n_shared: size of the tokenizer that both share; padding rows beyond it are cut.

    Ref: docs/methods/senses.md §10.
    """
    return big[:, :n_shared] + beta * (shift @ E[:n_shared].T)
