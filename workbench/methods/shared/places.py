"""All layers at once: what stands for a text there, and what a small push there does to the margin of good over bad answers.

For each layer and reading the direction is the difference of the two sides' means, tokens of the attention sink left out. Two numbers say
what it is worth on rows that it was not made of: the AUC of their projections on it, and the effect of a small dose, the first order of
what adding ε · direction to every token does to the margin, in nats a token: Σ_tokens ε v · ∂margin/∂h, ε v being a tenth as long as the
layer's median token. One pass forward gives the readings, one forward and backward the effects, of all layers.
Ref: docs/methods/shared.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, TextSide, concepts, rows_of_sides, two_sides
from workbench.data.splits import held_apart
from workbench.errors import NotEnoughData
from workbench.methods.shared.reading import ReadAt, Readings, answers, ordinary, read_side, tokens_of_side
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Bool, Float, Tensor
from workbench.sites import Site

Apart = tuple[TextSide, TextSide]
"""Texts of the good and of the bad side."""
READINGS: tuple[ReadAt, ...] = ("last", "mean")
PUSH = 0.1
"""Length of a small push, in median tokens of the layer."""
_MOST_ROWS = 64
_AT_ONCE = 8


def apart_sides(demonstrations: Demonstrations, most: int = _MOST_ROWS) -> tuple[Apart, Apart]:
    """Good and bad texts to make directions of, from rows of split `fit`, and others to judge them by.

    Those are of `validation`, or of every fourth prompt to fit where there are none.

    Args:
        most: texts a side at most.

    Raises:
        NotEnoughData: fewer than two texts of a side, in either part, or one prompt alone.
    """
    rows, apart = demonstrations.split("fit"), demonstrations.split("validation")
    names = concepts(rows)
    if not any(two_sides(apart, names).values()):
        rows, apart = sides_held_apart(rows, 4)
    good, bad, held_good, held_bad = (two_sides(part, names)[side][:most] for part in (rows, apart) for side in SIDES)
    require_two(demonstrations, good, bad, held_good, held_bad)
    return (good, bad), (held_good, held_bad)


def require_two(demonstrations: Demonstrations, *sides: Sequence[object]) -> None:
    """Raises: NotEnoughData: fewer than two texts of a side to fit on, or to hold out."""
    least = min(map(len, sides))
    if least < 2:
        raise NotEnoughData(
            f"One side of {demonstrations.name!r} has {least} texts to fit on or to hold out; 2 are needed.",
            "Fill positive and negative, or label prompts target and anti_target.",
        )


def sides_held_apart(rows: Demonstrations, nth: int) -> tuple[Demonstrations, Demonstrations]:
    """The rows without every `nth` prompt, and those; of two sets of prompts so of each.

    Raises:
        NotEnoughData: as `held_apart`.
    """
    good, bad = (rows.with_rows(side) for side in rows_of_sides(rows).values())
    if good == bad:
        return held_apart(good, nth)
    parts = [held_apart(side, nth) for side in (good, bad)]
    return tuple(rows.with_rows(row for part in parts for row in part[i]) for i in range(2))  # pyright: ignore[reportReturnType]


def _sites(model: LanguageModel) -> list[Site]:
    return [Site("resid_post", layer) for layer in range(model.info.n_layers)]


def read_both(
    model: LanguageModel, texts: Apart, tell: Progress
) -> tuple[Float[Tensor, "reading layer row d_model"], Float[Tensor, "reading layer row d_model"], Float[Tensor, " layer"]]:
    """Both readings of both sides at every layer, in one pass, and the median norm of a layer's tokens."""
    good, bad = (read_side(model, side, _sites(model), tell.part(at / 2, (at + 1) / 2)) for at, side in enumerate(texts))
    norms = torch.stack([torch.cat([side[site].norm for side in (good, bad)]).median() for site in _sites(model)])
    return stacked(good), stacked(bad), norms


def read_all(model: LanguageModel, side: TextSide) -> Float[Tensor, "reading layer row d_model"]:
    """Both readings of some texts at every layer, in one pass."""
    return stacked(read_side(model, side, _sites(model), silent()))


def stacked(found: Mapping[Site, Readings]) -> Float[Tensor, "reading layer row d_model"]:
    """Both readings at every site."""
    return torch.stack([torch.stack([getattr(one, read) for one in found.values()]) for read in READINGS])


def slopes(model: LanguageModel, texts: Apart, tell: Progress, layers: Sequence[int] | None = None) -> Float[Tensor, "layer d_model"]:
    """∂ margin / ∂ h at these layers or all, summed over a row's ordinary tokens, a mean over the rows; the margin in nats a token."""
    sites = _sites(model) if layers is None else [Site("resid_post", layer) for layer in sorted(layers)]
    total = torch.zeros(len(sites), model.info.d_model, dtype=torch.float64)
    for at, (side, sign) in enumerate(zip(texts, (1.0, -1.0))):
        batch = tokens_of_side(model, side)
        for start in range(0, len(batch), _AT_ONCE):
            part = batch.rows(slice(start, start + _AT_ONCE)).trimmed()
            total += sign * _gradients(model, part, sites) / len(batch)
            tell(min(1.0, (at + (start + _AT_ONCE) / len(batch)) / 2), "Pushing layers")
    return total


def _gradients(model: LanguageModel, part: TokenBatch, sites: Sequence[Site]) -> Float[Tensor, "layer d_model"]:
    """Of the summed log-probability a token of the answers. Below the first site nothing is kept for the way back."""
    seen: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        y = x if seen else x.detach().requires_grad_(True)
        seen.append(y)
        return y

    scored = answers(part)[:, 1:]
    with torch.enable_grad(), model.intercepts([(site, leaf) for site in sites]):
        log_p = _predicting(model, part, scored).log_softmax(-1).gather(-1, part.ids[:, 1:][scored][:, None])[:, 0]
        mean = (log_p / scored.sum(1)[scored.nonzero()[:, 0]]).sum()
        gradients = torch.autograd.grad(mean, seen)
    found: list[Tensor] = []
    for x, gradient in zip(seen, gradients):
        is_read = ordinary(x.detach().norm(dim=-1), part.mask)
        found.append(torch.where(is_read[..., None], gradient, 0.0).cpu().double().sum((0, 1)))
    return torch.stack(found)


def _predicting(model: LanguageModel, part: TokenBatch, scored: Bool[Tensor, "row before"]) -> Float[Tensor, "token d_vocab"]:
    """The logits where scored tokens are foretold: the unembedding, which costs as much as many blocks, sees no others."""
    if not model.blocks:
        return wide(model.logits(part))[:, :-1][scored]
    last = Site("resid_post", model.info.n_layers - 1)
    return wide(model.unembed(activations(model, part, [last])[last][:, :-1][scored][None])[0])
