"""All layers at once: what stands for a text there, and what a small push there does to the margin of good over bad answers.

For each layer and reading the direction is the difference of the two sides' means, tokens of the attention sink left out. Two numbers say
what it is worth on rows that it was not made of: the AUC of their projections on it, and the effect of a small dose, the first order of
what adding ε · direction to every token does to the margin, in nats a token: Σ_tokens ε v · ∂margin/∂h, ε v being a tenth as long as the
layer's median token. One pass forward gives the readings, one forward and backward the effects, of all layers.
Ref: docs/methods/shared.md §6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, are_pairs, concepts, side_of, two_sides
from workbench.data.splits import held_apart
from workbench.errors import NotEnoughData
from workbench.methods.shared.reading import ReadAt
from workbench.models.base import LanguageModel
from workbench.models.sinks import MASSIVE
from workbench.models.tokens import TokenBatch
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Bool, Float, Tensor
from workbench.sites import Site

TextSide = list[tuple[Prompt, str | None]]


READINGS: tuple[ReadAt, ...] = ("last", "mean")
PUSH = 0.1
"""Length of a small push, in median tokens of the layer."""
_MOST_ROWS = 64
_AT_ONCE = 8


def apart_sides(demonstrations: Demonstrations, most: int = _MOST_ROWS) -> tuple[tuple[TextSide, TextSide], tuple[TextSide, TextSide]]:
    """Good and bad texts to make directions of, from rows of split `fit`, and others to judge them by.

    Those are of `validation`, or of every fourth prompt to fit where there are none.

    Args:
        most: texts a side at most.

    Raises:
        NotEnoughData: fewer than two texts of a side, in either part.
    """
    rows, apart = demonstrations.split("fit"), demonstrations.split("validation")
    if not any(two_sides(apart).values()):
        rows, apart = _held_out(rows)
    found = tuple(tuple(two_sides(part)[side][:most] for side in SIDES) for part in (rows, apart))
    least = min(len(side) for part in found for side in part)
    if least < 2:
        raise NotEnoughData(
            f"One side of {demonstrations.name!r} has {least} texts to fit on or to hold out; 2 are needed.",
            "Fill positive and negative, or label prompts target and anti_target.",
        )
    return found  # pyright: ignore[reportReturnType]


def _held_out(rows: Demonstrations) -> tuple[Demonstrations, Demonstrations]:
    """Three prompts in four and the others; of two sets of prompts so of each."""
    if are_pairs(rows):
        return held_apart(rows)
    names = concepts(rows)
    parts = [held_apart(rows.where(lambda row, side=side: side_of(row, names, None) == side)) for side in SIDES]
    return tuple(rows.with_rows(row for part in parts for row in part[i]) for i in range(2))  # pyright: ignore[reportReturnType]


def _tokens(model: LanguageModel, side: TextSide) -> TokenBatch:
    ends = [end for _, end in side if end is not None]
    return model.tokens([prompt for prompt, _ in side], ends if len(ends) == len(side) else None)


def _sites(model: LanguageModel) -> list[Site]:
    return [Site("resid_post", layer) for layer in range(model.info.n_layers)]


def read_both(
    model: LanguageModel, texts: tuple[TextSide, TextSide], tell: Progress
) -> tuple[Float[Tensor, "reading layer row d_model"], Float[Tensor, "reading layer row d_model"], Float[Tensor, " layer"]]:
    """Both readings of both sides at every layer, in one pass, and the median norm of a layer's tokens."""
    found = [_read_one(model, side, tell.part(at / 2, (at + 1) / 2)) for at, side in enumerate(texts)]
    return found[0][0], found[1][0], torch.cat([norms for _, norms in found]).median(0).values


def read_all(model: LanguageModel, side: TextSide) -> Float[Tensor, "reading layer row d_model"]:
    """Both readings of some texts at every layer, in one pass."""
    return _read_one(model, side, silent())[0]


def _read_one(
    model: LanguageModel, side: TextSide, tell: Progress
) -> tuple[Float[Tensor, "reading layer row d_model"], Float[Tensor, "part layer"]]:
    sites, parts, norms = _sites(model), list[Tensor](), list[Tensor]()
    batch = _tokens(model, side)
    for start in range(0, len(batch), _AT_ONCE):
        part = batch.rows(slice(start, start + _AT_ONCE)).trimmed()
        with torch.no_grad():
            found = activations(model, part, sites)
        x = torch.stack([wide(found[site]).double().cpu() for site in sites])
        length = x.norm(dim=-1)
        norms.append(torch.stack([layer[part.mask.cpu()].median() for layer in length]))
        is_read = _ordinary(length, part.mask.cpu()) & _answer(part).cpu()
        weights = is_read.double() / is_read.sum(-1, keepdim=True).clamp_min(1)
        mean = (torch.where(is_read[..., None], x, 0.0) * weights[..., None]).sum(2)
        parts.append(torch.stack([x[:, :, -1], mean]))
        tell(min(1.0, (start + _AT_ONCE) / len(batch)), "Reading all layers")
    return torch.cat(parts, 2), torch.stack(norms)


def _answer(part: TokenBatch) -> Bool[Tensor, "row pos"]:
    """The answer's tokens; the whole text where there is none."""
    answer = part.mask & (part.positions >= part.n_prompt[:, None])
    return torch.where(answer.any(1, keepdim=True), answer, part.mask)


def _ordinary(length: Float[Tensor, "layer row pos"], mask: Bool[Tensor, "row pos"]) -> Bool[Tensor, "layer row pos"]:
    """Tokens that are not far longer than the others."""
    limit = torch.stack([MASSIVE * layer[mask].median() for layer in length])
    return mask & (length <= limit[:, None, None])


def slopes(model: LanguageModel, texts: tuple[TextSide, TextSide], tell: Progress) -> Float[Tensor, "layer d_model"]:
    """∂ margin / ∂ h at every layer, summed over a row's ordinary tokens, a mean over the rows; the margin in nats a token."""
    sites, total = _sites(model), torch.zeros(model.info.n_layers, model.info.d_model, dtype=torch.float64)
    for at, (side, sign) in enumerate(zip(texts, (1.0, -1.0))):
        batch = _tokens(model, side)
        for start in range(0, len(batch), _AT_ONCE):
            part = batch.rows(slice(start, start + _AT_ONCE)).trimmed()
            total += sign * _gradients(model, part, sites) / len(batch)
            tell((at + (start + _AT_ONCE) / len(batch)) / 2, "Pushing all layers")
    return total


def _gradients(model: LanguageModel, part: TokenBatch, sites: Sequence[Site]) -> Float[Tensor, "layer d_model"]:
    seen: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        y = x if seen else x.detach().requires_grad_(True)
        y.retain_grad()
        seen.append(y)
        return y

    with torch.enable_grad(), model.intercepts([(site, leaf) for site in sites]):
        log_p = wide(model.logits(part))[:, :-1].log_softmax(-1).gather(-1, part.ids[:, 1:, None])[..., 0]
        scored = _answer(part)[:, 1:]
        mean = torch.where(scored, log_p, 0.0).sum(1) / scored.sum(1)
        gradients = torch.autograd.grad(mean.sum(), seen)
    found: list[Tensor] = []
    for x, gradient in zip(seen, gradients):
        ordinary = _ordinary(x.detach().norm(dim=-1)[None], part.mask)[0]
        found.append(torch.where(ordinary[..., None], gradient, 0.0).double().sum((0, 1)).cpu())
    return torch.stack(found)
