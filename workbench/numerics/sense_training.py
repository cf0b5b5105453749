"""Losses and gradients of a sense table over canonical examples, without a transformer forward.

Ref: docs/methods/senses.md §3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.numerics.canonical_loop import Draw
from workbench.numerics.canonical_losses import LossKind, loss_slopes, loss_value
from workbench.numerics.sense_affine import AffineText, ReadText, SenseSelection, affine, kl_rows, mean_embedding, nll_rows


@dataclass(frozen=True)
class SenseExample:
    """A canonical example as affine texts, prompt + continuation; the rows predict the continuation."""

    kind: LossKind
    good: AffineText | None
    bad: AffineText | None

    def texts(self) -> list[AffineText]:
        """Return the texts that the loss reads, good first."""
        return [text for text in (self.good, self.bad) if text is not None]


@dataclass(frozen=True)
class SenseObjective:
    """Σ over draws of L(example) + w·KL(chunk), as a function of the table δ.

    A chunk with no rows is one that no selected word type touches: its KL is 0 for every δ.

    Args:
        E: the embedding matrix.
        examples: the canonical examples.
        chunks: neutral chunks, rows from the first selected word type on.
        kl_weights: w of each chunk (per position, where the KL is summed over positions).
        kl_direction: "p0_to_p" is KL(p0‖p), as released; "p_to_p0" is the paper's.
    """

    E: Float[Tensor, "d_vocab d_model"]
    examples: Sequence[SenseExample]
    chunks: Sequence[AffineText]
    kl_weights: Sequence[float]
    kl_direction: Literal["p0_to_p", "p_to_p0"] = "p0_to_p"

    def gradient(self, delta: Float[Tensor, "chosen d_model"], draws: Sequence[Draw]) -> Float[Tensor, "chosen d_model"]:
        """Return ∂/∂δ of the sum over the draws; one product with E forth and one back for the whole group."""
        parts = [text for example, _ in draws for text in self.examples[example].texts()]
        n_suffix_rows = sum(len(text.targets) for text in parts)
        drawn = [(self.chunks[chunk], self.kl_weights[chunk]) for _, chunk in draws] if self.chunks else []
        drawn = [(text, weight) for text, weight in drawn if len(text.targets) and weight]
        parts += [text for text, _ in drawn]
        h = torch.cat([text.h(delta) for text in parts])
        logits = h @ self.E.T
        log_z = logits.logsumexp(-1)
        nll = (log_z - logits.gather(1, torch.cat([text.targets for text in parts])[:, None])[:, 0])[:n_suffix_rows]
        p = logits.sub_(log_z[:, None]).exp_()
        slopes = self._slopes(draws, nll)
        coefficients = [nll.new_full((len(text.targets),), slope / len(text.targets)) for text, slope in zip(parts, slopes)]
        gradient = torch.zeros_like(delta)
        mean = p @ self.E
        start = 0
        for i, text in enumerate(parts):
            rows = slice(start, start + len(text.targets))
            start = rows.stop
            if i < len(slopes):
                pull = coefficients[i][:, None] * (mean[rows] - self.E[text.targets])
            else:
                pull = drawn[i - len(slopes)][1] * self._kl_pull(text, p[rows], mean[rows])
            gradient.index_add_(0, text.index, text.a.T @ pull)
        return gradient

    def _slopes(self, draws: Sequence[Draw], nll: Float[Tensor, " row"]) -> list[float]:
        """Return ∂L/∂M of each suffix, in the order of the texts."""
        slopes: list[float] = []
        start = 0
        for example in (self.examples[index] for index, _ in draws):
            means = [0.0, 0.0]
            for side, text in enumerate((example.good, example.bad)):
                if text is not None:
                    means[side] = nll[start : start + len(text.targets)].double().mean().item()
                    start += len(text.targets)
            pair = loss_slopes(example.kind, *means)
            slopes += [slope for slope, text in zip(pair, (example.good, example.bad)) if text is not None]
        return slopes

    def _kl_pull(self, text: AffineText, p: Float[Tensor, "row d_vocab"], mean: Float[Tensor, "row d_model"]) -> Tensor:
        if self.kl_direction == "p0_to_p":
            return mean - (mean_embedding(text.h0, self.E) if text.neutral is None else text.neutral)
        ratio = p.log() - (text.h0 @ self.E.T).log_softmax(-1)
        return (p * (ratio - (p * ratio).sum(-1, keepdim=True))) @ self.E

    def mean_loss(self, delta: Float[Tensor, "chosen d_model"]) -> float:
        """Return the mean training loss over the examples, in nats."""
        return sum(example_losses(self.examples, delta, self.E, normalise=True)) / len(self.examples)

    def kl(self, delta: Float[Tensor, "chosen d_model"]) -> float:
        """Return the KL summed over all chunks and positions, in nats, unweighted."""
        reverse = self.kl_direction == "p_to_p0"
        return sum(kl_rows(text, delta, self.E, reverse).sum(dtype=torch.float64).item() for text in self.chunks)


def example_losses(examples: Sequence[SenseExample], delta: Float[Tensor, "chosen d_model"], E: Tensor, normalise: bool) -> list[float]:
    """Return each example's loss: of mean NLLs, as trained, when normalising; of summed NLLs, as evaluated, if not."""
    found = iter(nll_rows([text for example in examples for text in example.texts()], delta, E))
    values: list[float] = []
    for example in examples:
        sides = [0.0 if text is None else _total(next(found), normalise) for text in (example.good, example.bad)]
        values.append(loss_value(example.kind, *sides))
    return values


def _total(nll: Float[Tensor, " row"], normalise: bool) -> float:
    return nll.double().mean().item() if normalise else nll.double().sum().item()


@dataclass(frozen=True)
class NeutralLoss:
    """The general loss of neutral text under a table, with every row that no selected word type touches kept from
    before.

    Args:
        base: summed NLL of all rows without edit, and of the touched rows alone.
        n_rows: how many tokens are predicted.
        touched: the chunks' touched rows; chunks without any are left out.
    """

    base: float
    base_touched: float
    n_rows: int
    touched: Sequence[AffineText]

    def ratio(self, delta: Float[Tensor, "chosen d_model"], E: Float[Tensor, "d_vocab d_model"]) -> float:
        """Return ρ = ℓ_G(δ) / ℓ_G(0), sums in float64."""
        return self.mean(delta, E) / (self.base / self.n_rows)

    def mean(self, delta: Float[Tensor, "chosen d_model"], E: Float[Tensor, "d_vocab d_model"]) -> float:
        """Return ℓ_G(δ) in nats per predicted token."""
        if not self.touched:
            return self.base / self.n_rows
        now = sum(nll.sum(dtype=torch.float64).item() for nll in nll_rows(self.touched, delta, E))
        return (self.base + (now - self.base_touched)) / self.n_rows


def neutral_loss(chunks: Sequence[ReadText], base_rows: Sequence[Float[Tensor, " _row"]], selection: SenseSelection) -> NeutralLoss:
    """Return the general loss of read chunks as a function of a table over the selected senses.

    Args:
        chunks: neutral chunks.
        base_rows: NLL without edit of each chunk's predicting rows, computed once per model.
        selection: the senses of the table.
    """
    touched: list[AffineText] = []
    base_touched = 0.0
    for chunk, base in zip(chunks, base_rows, strict=True):
        text = affine(chunk.predicting(), selection, touched_only=True)
        n = len(text.targets)
        if n:
            touched.append(text)
            # Touched rows are a chunk's last ones: whatever follows the first selected word type.
            base_touched += base[-n:].sum(dtype=torch.float64).item()
    base = sum(rows.sum(dtype=torch.float64).item() for rows in base_rows)
    return NeutralLoss(base, base_touched, sum(len(rows) for rows in base_rows), touched)
