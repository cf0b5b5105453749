"""Read the activations of demonstrations in three versions: the model's own answer, the good one and the bad one.

Ref: docs/methods/sea.md §3.1. Every text shares its prompt with the other two. The own answer is greedy; its vector is that of the last
token *fed* to the model, so of prompt + generated[:-1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from workbench import memo
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.decode import Sampling, generate
from workbench.methods.shared.reading import stream_texts
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress
from workbench.record import rows_of
from workbench.shapes import Activations, Bool, Float, Rows2d, Tensor
from workbench.sites import Site

Collect = Literal["last", "mean", "random"]
Period = Literal["match", "keep", "strip", "force", "force_negative"]
_ENDS = (".", "!", "?")


@dataclass(frozen=True)
class ContrastTokens:
    """Token batches of the same demonstrations, row by row: own answer, good answer, bad answer."""

    base: TokenBatch
    positive: TokenBatch
    negative: TokenBatch


def drawn_rows(rows: Demonstrations, n: int, seed: int) -> Demonstrations:
    """At most `n` of the rows, drawn with the seed, in their order."""
    if len(rows) <= n:
        return rows
    picked = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n].sort().values
    return rows.with_rows(rows[int(i)] for i in picked)


def settled_period(period: Period, rows: Demonstrations) -> Period:
    """What `match` means for these rows: force a full stop where some answers end in one and some don't, else keep the texts.

    Forcing one always would lose the difference (docs/methods/sea.md §4): after a one-word answer a full stop's activations hardly differ
    between the two sides (on the embedded misconceptions k was 1 on both), and where all answers end alike there is no full stop to learn.
    """
    if period != "match":
        return period
    ends = {text.rstrip().endswith(_ENDS) for side in ("positive", "negative") for text in rows.column(side)}
    return "force" if len(ends) > 1 else "keep"


def with_period(text: str, period: Period, *, negative: bool) -> str:
    """The answer with its last full stop kept, stripped, or made sure of; `match` has to be settled before."""
    if period in ("keep", "match") or (period == "force_negative" and not negative):
        return text
    bare = text.rstrip()
    if period == "strip":
        return bare.removesuffix(".").rstrip() or bare
    return bare if bare.endswith(_ENDS) else bare + "."


def tokens_of(
    model: LanguageModel,
    rows: Demonstrations,
    period: Period,
    max_new_tokens: int | None,
    progress: Progress,
    *,
    base: Literal["positive"] | None = None,
    batch_size: int = 64,
) -> ContrastTokens:
    """Tokenise the three versions; own answers are generated here, unless the good ones are declared to be the base."""
    prompts = rows.prompts()
    sides = {
        side: model.tokens(prompts, [with_period(text, period, negative=side == "negative") for text in rows.column(side)])
        for side in ("positive", "negative")
    }
    if base is not None:
        return ContrastTokens(sides[base], sides["positive"], sides["negative"])
    longest = max(int((batch.lengths - batch.n_prompt).max()) for batch in sides.values())
    sampling = Sampling(max_new_tokens=longest + 1 if max_new_tokens is None else max_new_tokens)
    own = memo.once(("own answers", id(model), tuple(prompts), sampling), lambda: _own(model, prompts, sampling, batch_size, progress))
    return ContrastTokens(own, sides["positive"], sides["negative"])


def _own(model: LanguageModel, prompts: list[Prompt], sampling: Sampling, batch_size: int, progress: Progress) -> TokenBatch:
    """Each prompt with the model's own answer, all but the answer's last token."""
    fed: list[list[int]] = []
    n_prompt: list[int] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        inner = progress.part(start / len(prompts), min(1.0, (start + batch_size) / len(prompts)))
        (answers,) = generate(model, part, sampling=sampling, progress=inner)
        own = model.tokens(part)
        for i, answer in enumerate(answers):
            prompt_ids = own.ids[i][own.mask[i]].tolist()
            fed.append(prompt_ids + list(answer.ids[:-1]))
            n_prompt.append(len(prompt_ids))
    return TokenBatch.of(fed, n_prompt, model.device)


def stream_rows(
    model: LanguageModel, batch: TokenBatch, sites: Sequence[Site], collect: Collect, seed: int, progress: Progress, *, batch_size: int = 32
) -> Iterator[dict[Site, Rows2d]]:
    """Yield batch by batch one row a demonstration: the last token, the mean over the answer, or a random token of it.

    Whole answers are read as `read_side` reads them, once for both. An answer of no fed token (the own answer was one token long) stands
    for itself by its last prompt token.
    """
    if collect != "random" and bool((batch.lengths > batch.n_prompt).all()):
        for found in stream_texts(model, batch, sites, progress, batch_size=batch_size):
            yield {site: getattr(x, collect) for site, x in found.items()}
        return
    draw = torch.Generator().manual_seed(seed)
    for start in range(0, len(batch), batch_size):
        part = batch.rows(slice(start, start + batch_size))
        yield _read(model, part, sites, _weights(part, collect, draw))
        progress(min(1.0, (start + batch_size) / len(batch)), "Collecting activations")


def _read(model: LanguageModel, part: TokenBatch, sites: Sequence[Site], weights: Float[Tensor, "row pos"]) -> dict[Site, Rows2d]:
    """The weighted means of one batch."""

    def means(x: Activations) -> Rows2d:
        # where, not a product: activations on padding may be anything
        return (torch.where(weights[..., None] > 0, x.double(), 0.0) * weights[..., None]).sum(1).cpu()

    return rows_of(model, part, sites, ("means", weights), means)


def _weights(part: TokenBatch, collect: Collect, draw: torch.Generator) -> Tensor:
    answer: Bool[Tensor, "batch pos"] = part.mask & (part.positions >= part.n_prompt[:, None])
    last = torch.zeros_like(answer)
    last[:, -1] = True  # rows are padded on the left
    answer = torch.where(answer.any(1, keepdim=True), answer, last)
    if collect == "random":
        noise = torch.rand(answer.shape, generator=draw).to(answer.device)
        answer = torch.nn.functional.one_hot(torch.where(answer, noise, -1.0).argmax(1), answer.shape[1]).bool()
    chosen = last if collect == "last" else answer
    return chosen.double() / chosen.sum(1, keepdim=True)
