"""Where a text is read: one knob, with the same words, for every method that fits to activations.

Which token stands for a text decides what a direction is about. The last token of a sentence is its full stop, whose difference says
little; the mean over the answer's tokens says what the answer says. One-word answers are their last token. So the default follows the size
of the network (docs/methods/shared.md §4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from workbench.data.sides import SIDES, Sides
from workbench.errors import BadKnob
from workbench.knobs import knob
from workbench.methods.shared.layers import SMALL
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.sinks import norm_bound
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress
from workbench.record import gather
from workbench.shapes import Bool, Float, Tensor
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


def read_sides(
    model: LanguageModel, sides: Sides, sites: Sequence[Site], read: ReadAt, progress: Progress
) -> dict[Site, tuple[Float[Tensor, "target width"], Float[Tensor, "other width"]]]:
    """The rows (text, width) of both sides at each site, the target's first; float64 where they are means.

    A mean leaves out tokens that are far longer than the others: they carry the attention sink, and say nothing of the text.

    Raises:
        BadKnob: another reading than these two. NotFinite: as `record.gather`.
    """
    if read not in ("last", "mean"):
        raise BadKnob(f"read = {read}: sides that need not be pairs are read at the last token or as means.", "Set read = last or mean.")
    batches = [_tokens(model, sides[side]) for side in SIDES]
    parts = [progress.part(i / 2, (i + 1) / 2) for i in range(2)]
    if read == "last":
        last = [gather(model, batch, sites, progress=part) for batch, part in zip(batches, parts)]
        return {site: (last[0][site], last[1][site]) for site in sites}
    chosen = [_answers(batch) for batch in batches]
    tokens = [gather(model, batch, sites, mask, progress=part) for batch, mask, part in zip(batches, chosen, parts)]
    owners = [mask.nonzero()[:, 0].cpu() for mask in chosen]
    found: dict[Site, tuple[Tensor, Tensor]] = {}
    for site in sites:
        bound = norm_bound(torch.cat([x[site].double().norm(dim=1).cpu() for x in tokens]))
        good, bad = (_means(x[site], owner, len(batch), bound) for x, owner, batch in zip(tokens, owners, batches))
        found[site] = good, bad
    return found


def _tokens(model: LanguageModel, side: list[Any]) -> TokenBatch:
    ends = [end for _, end in side if end is not None]
    return model.tokens([prompt for prompt, _ in side], ends if len(ends) == len(side) else None)


def _answers(batch: TokenBatch) -> Bool[Tensor, "row pos"]:
    """The answer's tokens; all where there is none."""
    answer = batch.mask & (batch.positions >= batch.n_prompt[:, None])
    return torch.where(answer.any(1, keepdim=True), answer, batch.mask)


def _means(x: Float[Tensor, "token width"], owner: Tensor, n: int, bound: float | None) -> Float[Tensor, "row width"]:
    x = x.double().cpu()
    weight = torch.ones(len(x), dtype=torch.float64) if bound is None else (x.norm(dim=1) <= bound).double()
    ordinary = torch.zeros(n, dtype=torch.float64).index_add(0, owner, weight)
    weight = torch.where((ordinary == 0)[owner], 1.0, weight)  # a text of nothing else stands for itself
    total = torch.zeros(n, dtype=torch.float64).index_add(0, owner, weight)
    return torch.zeros(n, x.shape[1], dtype=torch.float64).index_add(0, owner, x * weight[:, None]) / total[:, None]
