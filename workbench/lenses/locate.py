"""Where is it? At which layer, and read from which tokens, good and bad answers differ, and where a small push moves the model.

For each layer and reading the direction is the difference of the two sides' means over rows of split `fit`, tokens of the attention sink
left out. Two numbers say what it is worth on held-out rows: the AUC of their projections on it, and the effect of a small dose, the first
order of what adding ε · direction to every token does to the margin of good over bad answers, in nats a token: Σ_tokens ε v · ∂margin/∂h,
ε v being a tenth as long as the layer's median token. All layers come from one pass forward for the readings and one forward and backward
for the effect; nothing is fitted layer by layer. Beside both stands what random directions of the same length reach.

A last number tells what else the direction may do: its cosine with the direction from safe to harmful requests (28 each, which ship), the
difference of their means at the last token, where held-out requests show that it is one.

Where rows are pairs, a third number foretells how reliable one direction is: the mean cosine of the held-out pairs' differences with it.
Ref: docs/methods/shared.md §6; Braun et al. 2025 for the agreement, Arditi et al. (arXiv 2406.11717) for the direction of refusals.
Differs: a first order is no measurement; a choice by validation measures. The agreement is of rows that the direction was not made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.data.damage import requests
from workbench.data.demonstrations import Demonstrations
from workbench.methods.shared.places import PUSH, READINGS, apart_sides, read_all, read_both, slopes
from workbench.methods.shared.reading import FittedAt, ReadAt
from workbench.models.base import LanguageModel
from workbench.models.chat import at_once
from workbench.numerics.intervals import auc_interval, placements
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

_PLACES: Mapping[str, str] = {"last": "the last token", "mean": "the mean over the answer"}
_N_RANDOM = 64


@dataclass(frozen=True)
class Located:
    """What each layer (columns) shows when read from each place (rows of the arrays)."""

    model: str
    data: str
    layers: tuple[int, ...]
    readings: tuple[ReadAt, ...]
    auc: Float[np.ndarray, "reading layer"]
    auc_low: Float[np.ndarray, "reading layer"]
    effect: Float[np.ndarray, "reading layer"]
    """Nats a token that the margin gains to first order; NaN where rows have no two answers."""
    auc_band: tuple[float, float]
    """95 % of random directions' AUC, over all layers and readings."""
    effect_band: tuple[float, float]
    n_fit: int
    n_held: int
    agreement: Float[np.ndarray, "reading layer"]
    """Mean cosine of the held-out pairs' differences with the direction; NaN where rows have no two answers."""
    agreement_beyond: float
    """What 97.5 % of random directions stay below, over all layers and readings."""
    refusal: Float[np.ndarray, "reading layer"]
    """Cosine with the direction from safe to harmful requests; NaN at layers that do not tell held-out ones of the two apart."""
    refusal_beyond: float
    """What the cosine of 97.5 % of random directions stays below, whatever its sign."""

    @property
    def best(self) -> tuple[int, ReadAt]:
        """The layer and the reading to start from: the largest effect among those whose AUC is beyond the random directions'.

        Without effects the largest AUC; the lower layer of equals.
        """
        score = self.auc if np.isnan(self.effect).all() else np.where(self.auc > self.auc_band[1], self.effect, -np.inf)
        if not np.isfinite(score).any():
            score = self.effect
        reading, layer = np.unravel_index(int(np.argmax(score)), score.shape)
        return self.layers[int(layer)], self.readings[int(reading)]

    @property
    def is_found(self) -> bool:
        """Whether a layer is beyond what random directions reach, in the effect too where there is one, and its AUC beyond chance."""
        told = (self.auc > self.auc_band[1]) & (self.auc_low > 0.5)
        return bool(told.any() if np.isnan(self.effect).all() else (told & (self.effect > self.effect_band[1])).any())

    @property
    def says(self) -> str:
        """Plain sentences for a person; the numbers are in `detail`."""
        if not self.is_found:
            return f"No effect found: on {self.n_held} held-out rows no layer is beyond what random directions reach."
        at = self._at(*self.best)
        told = f"Start at layer {self.best[0]}, read from {_PLACES[self.best[1]]}: there a direction tells both sides apart."
        return f"{told}{self._reliability(at)}{self._refusing(at)}"

    @property
    def detail(self) -> str:
        """The numbers behind `says`; empty where nothing was found."""
        return self._numbers(self._at(*self.best)) if self.is_found else ""

    def foretold(self, title: str, fitted: FittedAt | None) -> tuple[str, str]:
        """What to expect of a method that is fitted there: plain sentences, and the numbers behind them; empty where nothing is known."""
        if fitted is None:
            return "", ""
        if not fitted.layers:
            return f"{title} looks for its own layers while it fits.", ""
        readings = [i for i, reading in enumerate(self.readings) if fitted.read in (None, reading)]
        mine = [(i, self.layers.index(layer)) for layer in fitted.layers for i in readings]
        at = max(mine, key=lambda at: (float(self.auc[at]), -at[1]))
        there = f"{title} is fitted at {_listed(fitted.layers)}"
        there += f"; what tells most is layer {self.layers[at[1]]}" if len(fitted.layers) > 1 else ""
        if self.auc[at] <= self.auc_band[1] or self.auc_low[at] <= 0.5:
            return f"{there}: there no direction tells both sides apart beyond chance, so expect little of it.", self._numbers(at)
        return f"{there}: there a direction tells both sides apart.{self._reliability(at)}{self._refusing(at)}", self._numbers(at)

    def _at(self, layer: int, reading: ReadAt) -> tuple[int, int]:
        return self.readings.index(reading), self.layers.index(layer)

    def _numbers(self, at: tuple[int, int]) -> str:
        told = [f"AUC {self.auc[at]:.2f}, at least {self.auc_low[at]:.2f} (random directions up to {self.auc_band[1]:.2f})"]
        for x, name, unit, beyond in (
            (self.effect, "a small push moves the margin by", " nats a token", self.effect_band[1]),
            (self.agreement, "mean cosine of the pairs with it", "", self.agreement_beyond),
            (self.refusal, "cosine with the direction of harmful requests", "", self.refusal_beyond),
        ):
            told += [] if np.isnan(x[at]) else [f"{name} {x[at]:+.3g}{unit} (random: {beyond:.3g})"]
        where = f"Layer {self.layers[at[1]]}, {_PLACES[self.readings[at[0]]]}, {self.n_held} held-out rows"
        return f"{where}: {'; '.join(told)}."

    def _reliability(self, at: tuple[int, int]) -> str:
        if np.isnan(self.agreement[at]):
            return ""
        if self.agreement[at] > self.agreement_beyond:
            return " The pairs point the same way, so expect one direction to serve most rows."
        return " The pairs hardly agree: expect one direction to help some rows and harm others."

    def _refusing(self, at: tuple[int, int]) -> str:
        cosine = self.refusal[at]
        if np.isnan(cosine):
            return " This layer does not tell harmful from safe requests, so nothing is said of refusals."
        if abs(cosine) <= self.refusal_beyond:
            return " Refusals should stay: it lies no more along the direction of harmful requests than random directions do."
        return f" It lies along the direction of harmful requests: expect {'more' if cosine > 0 else 'fewer'} refusals."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a reading and layer."""
        return [
            {"read from": reading, "layer": layer, "AUC": float(self.auc[i, j]), "AUC at least": float(self.auc_low[i, j]),
             "effect, nats a token": None if np.isnan(self.effect[i, j]) else float(self.effect[i, j]),
             "pairs agree, cosine": None if np.isnan(self.agreement[i, j]) else float(self.agreement[i, j]),
             "refusal, cosine": None if np.isnan(self.refusal[i, j]) else float(self.refusal[i, j])}
            for i, reading in enumerate(self.readings)
            for j, layer in enumerate(self.layers)
        ]  # fmt: skip


def _listed(layers: Sequence[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"


def locate(model: LanguageModel, demonstrations: Demonstrations, *, seed: int = 0, progress: Progress | None = None) -> Located:
    """Look at all layers at once. Sides are the two answers of each row, or two sets of prompts (as for ARE).

    Directions come from at most 64 rows of split `fit`, both numbers from at most 64 of `validation` (every fourth fit row without any).

    Raises:
        NotEnoughData: fewer than two texts a side to fit on, or to hold out. Others: as `LanguageModel.tokens`.
    """
    tell = progress or silent()
    fit, held = apart_sides(demonstrations)
    layers = tuple(range(model.info.n_layers))
    read = [read_both(model, texts, tell.part(0.35 * i, 0.35 * (i + 1))) for i, texts in enumerate((fit, held))]
    (good, bad, norms), (held_good, held_bad, _) = read
    directions = good.mean(2) - bad.mean(2)  # (reading, layer, d_model)
    drawn = torch.randn(_N_RANDOM, len(layers), model.info.d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pairs = all(end is not None for side in held for _, end in side)
    slope = slopes(model, held, tell.part(0.7, 0.9)) if pairs else torch.full_like(directions[0], torch.nan)
    push = PUSH * norms[:, None]
    effect = torch.einsum("rld,ld->rl", torch.nn.functional.normalize(directions, dim=-1) * push, slope)
    random_effect = torch.einsum("nld,ld->nl", torch.nn.functional.normalize(drawn, dim=-1) * push, slope)
    auc = np.zeros((len(READINGS), len(layers)))
    low, random_auc = np.zeros_like(auc), np.zeros((len(READINGS), len(layers), _N_RANDOM))
    for i in range(len(READINGS)):
        for j in range(len(layers)):
            yes, no = ((side[i, j] @ directions[i, j]).numpy() for side in (held_good, held_bad))
            found = auc_interval(yes, no)
            auc[i, j], low[i, j] = found.estimate, found.low
            yes, no = ((drawn[:, j] @ side[i, j].T).numpy() for side in (held_good, held_bad))
            random_auc[i, j] = placements(yes, no).mean((1, 2))
    bands = [tuple(map(float, np.nanquantile(x, (0.025, 0.975)))) if np.isfinite(x).any() else (0.0, 0.0)
             for x in (random_auc, random_effect.numpy())]  # fmt: skip
    told = model.info.name, demonstrations.name, layers, READINGS, auc, low, effect.numpy()
    agreement, beyond = _agreement(held_good - held_bad, directions, drawn) if pairs else (np.full_like(auc, np.nan), 0.0)
    counts = len(fit[0]), len(held[0])
    refusal = _refusal(model, directions, drawn, demonstrations.is_chat, tell.part(0.9, 1.0))
    return Located(*told, (bands[0][0], bands[0][1]), (bands[1][0], bands[1][1]), *counts, agreement, beyond, *refusal)


def _refusal(
    model: LanguageModel,
    directions: Float[Tensor, "reading layer d_model"],
    drawn: Float[Tensor, "draw layer d_model"],
    chat: bool,
    tell: Progress,
) -> tuple[Float[np.ndarray, "reading layer"], float]:
    """Cosines with the direction from safe to harmful requests, read at their last token; the odd ones say where it is one at all."""
    thinking = at_once(model.tokenizer)
    harmful, safe = (read_all(model, [(prompt, None) for prompt in asked]) for asked in requests(chat=chat, thinking=thinking))
    tell(1.0, "Reading requests")
    ours = torch.nn.functional.normalize(harmful[0, :, ::2].mean(1) - safe[0, :, ::2].mean(1), dim=-1)  # (layer, d_model)
    cosine = (torch.nn.functional.normalize(directions, dim=-1) * ours).sum(-1)
    for layer in range(len(ours)):
        if auc_interval(*((side[0, layer, 1::2] @ ours[layer]).numpy() for side in (harmful, safe))).low <= 0.5:
            cosine[:, layer] = torch.nan
    random = (torch.nn.functional.normalize(drawn, dim=-1) * ours).sum(-1)
    return cosine.numpy(), float(random.abs().quantile(0.975))


def _agreement(
    differences: Float[Tensor, "reading layer row d_model"],
    directions: Float[Tensor, "reading layer d_model"],
    drawn: Float[Tensor, "draw layer d_model"],
) -> tuple[Float[np.ndarray, "reading layer"], float]:
    """Mean cosine of pairs' differences with a direction, and what 97.5 % of random directions stay below."""
    mean = torch.nn.functional.normalize(differences, dim=-1).mean(2)
    ours, random = (torch.nn.functional.normalize(x, dim=-1) for x in (directions, drawn))
    return (mean * ours).sum(-1).numpy(), float(torch.einsum("rld,nld->rln", mean, random).quantile(0.975))
