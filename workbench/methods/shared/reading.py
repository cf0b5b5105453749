"""Where a text is read: one knob, with the same words, for every method that fits to activations.

Which token stands for a text decides what a direction is about. The last token of a sentence is its full stop, whose difference says
little; the mean over the answer's tokens says what the answer says. One-word answers are their last token. So the default follows the size
of the network (docs/methods/shared.md §4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch

from workbench.data.sides import SIDES, Sides, TextSide
from workbench.errors import BadKnob
from workbench.knobs import knob
from workbench.methods.shared.layers import SMALL, FitsAt
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.sinks import MASSIVE
from workbench.models.tokens import TokenBatch
from workbench.operations import wide
from workbench.progress import Progress
from workbench.record import reduced
from workbench.shapes import Activations, Bool, Float, Tensor
from workbench.sites import Site

ReadAt = Literal["last", "mean", "random", "each"]
ReadFrom = Literal["auto", "last", "mean"]
_WORDS: dict[str, str] = {
    "last": "the last token of prompt and answer (without an answer that of the prompt, so of a chat its template's last)",
    "mean": "the mean over the answer's tokens (without an answer over the prompt's, but for those that carry the attention sink)",
    "random": "one of the answer's tokens, drawn with the seed",
    "each": "every token of the answer, those of equal place in both answers a pair",
}
_AUTO = " auto: the mean; the last token in models of fewer than 30 million parameters, whose answers are a word or two."


def read_knob(*options: ReadAt, default: str = "auto") -> Any:
    """The knob `read`, whose options have the same words wherever it stands."""
    told = "; ".join(f"{option}: {_WORDS[option]}" for option in options)
    return knob(default, label="Read from", help=f"What stands for a text. {told}.{_AUTO if default == 'auto' else ''}")


def settled_reading(read: str, info: ModelInfo) -> ReadAt:
    """What `auto` means on a model; every other word means itself."""
    if read != "auto":
        return read  # pyright: ignore[reportReturnType]
    return "last" if info.n_parameters < SMALL else "mean"


class FittedAt(NamedTuple):
    """Where a fit reads, as far as that is known before it: `layers`, none where it looks for its own; `read`, None where that is no
    single reading of a text."""

    layers: tuple[int, ...]
    read: Literal["last", "mean"] | None


def fitted_at(config: object, info: ModelInfo) -> FittedAt | None:
    """Where a config will be fitted in a model of this shape; None for a method that is fitted at no layers of the stream."""
    if not isinstance(config, FitsAt):
        return None
    named = getattr(config, "read", None)
    read = settled_reading(named, info) if isinstance(named, str) else None
    layers = tuple(sorted({layer for layer in config.fits_at(info) if layer < info.n_layers}))
    return FittedAt(layers, read if read == "last" or read == "mean" else None)


class Readings(NamedTuple):
    """What stands for each text at one site, float64: its last token, the mean over its answer; and the median norm of its tokens."""

    last: Float[Tensor, "row width"]
    mean: Float[Tensor, "row width"]
    norm: Float[Tensor, " row"]


def read_sides(
    model: LanguageModel, sides: Sides, sites: Sequence[Site], read: ReadAt, progress: Progress
) -> dict[Site, tuple[Float[Tensor, "target width"], Float[Tensor, "other width"]]]:
    """The rows (text, width) of both sides at each site, the target's first, float64; as `read_side`.

    Raises:
        BadKnob: another reading than these two. NotFinite: as `record.gather`.
    """
    if read not in ("last", "mean"):
        raise BadKnob(f"read = {read}: sides that need not be pairs are read at the last token or as means.", "Set read = last or mean.")
    good, bad = (read_side(model, sides[side], sites, progress.part(i / 2, (i + 1) / 2)) for i, side in enumerate(SIDES))
    return {site: (getattr(good[site], read), getattr(bad[site], read)) for site in sites}


def read_side(model: LanguageModel, side: TextSide, sites: Sequence[Site], progress: Progress) -> dict[Site, Readings]:
    """Both readings of some texts at each site, in one pass that keeps no tokens.

    A mean leaves out tokens that are far longer than the others of their text: they carry the attention sink, and say nothing of it.

    Raises:
        NotFinite: as `record.gather`.
    """
    parts = list(stream_texts(model, tokens_of_side(model, side), sites, progress))
    return {site: Readings._make(torch.cat(found) for found in zip(*(part[site] for part in parts))) for site in sites}


def stream_texts(
    model: LanguageModel, batch: TokenBatch, sites: Sequence[Site], progress: Progress, *, batch_size: int = 32
) -> Iterator[dict[Site, Readings]]:
    """As `read_side`, batch by batch. Raises: NotFinite: as `record.gather`."""
    for found in reduced(model, batch, sites, ("texts", answers(batch)), _of_each, batch_size=batch_size, progress=progress):
        yield {site: Readings._make((*x[:, 1:].chunk(2, 1), x[:, 0])) for site, x in found.items()}


def tokens_of_side(model: LanguageModel, side: TextSide) -> TokenBatch:
    """The texts with their answers; the prompts alone where one has none."""
    ends = [end for _, end in side if end is not None]
    return model.tokens([prompt for prompt, _ in side], ends if len(ends) == len(side) else None)


def answers(batch: TokenBatch) -> Bool[Tensor, "row pos"]:
    """The answer's tokens; all where there is none."""
    answer = batch.mask & (batch.positions >= batch.n_prompt[:, None])
    return torch.where(answer.any(1, keepdim=True), answer, batch.mask)


def ordinary(length: Float[Tensor, "row pos"], mask: Bool[Tensor, "row pos"]) -> Bool[Tensor, "row pos"]:
    """The tokens that are not far longer than the others of their text."""
    return mask & (length <= MASSIVE * _middle(length, mask)[:, None])


def _middle(length: Float[Tensor, "row pos"], mask: Bool[Tensor, "row pos"]) -> Float[Tensor, " row"]:
    return length.masked_fill(~mask, torch.nan).nanmedian(1).values


def _of_each(x: Activations, part: TokenBatch, chosen: Bool[Tensor, "row pos"]) -> Float[Tensor, "row thrice"]:
    """Of each text the median norm, the last token and the mean, side by side."""
    z, mask, answer = wide(x).cpu().double(), part.mask.cpu(), chosen.cpu()
    length = z.norm(dim=-1)
    read = ordinary(length, mask) & answer
    read = torch.where(read.any(1, keepdim=True), read, answer)  # a text of nothing else stands for itself
    mean = torch.where(read[..., None], z, 0.0).sum(1) / read.sum(1, keepdim=True)
    return torch.cat([_middle(length, mask)[:, None], z[:, -1], mean], 1)
