"""Score given texts: log-probabilities of continuations, several lanes in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench import forks
from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.forks import widened
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class Scores:
    """Natural log-probabilities of continuations. `per_token` is padded with 0 behind the `n_tokens` of a row."""

    per_token: Float[Tensor, "lane row token"]
    n_tokens: Int[Tensor, " row"]

    @property
    def total(self) -> Float[Tensor, "lane row"]:
        """Summed over the tokens of the continuation, not length-normalised."""
        return self.per_token.sum(-1)

    @property
    def mean(self) -> Float[Tensor, "lane row"]:
        """Per token."""
        return self.total / self.n_tokens


def continuation_scores(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    continuations: Sequence[str],
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Scores:
    """Return log p(continuation | prompt) token by token under each stack.

    Prompt and continuation are tokenised apart and joined as ids; logits are taken in float32 (float64 if the model is).

    Raises: as `LanguageModel.tokens` and `engine.lanes`.
    """
    return batch_scores(model, model.tokens(list(prompts), list(continuations)), stacks, batch_size=batch_size, progress=progress)


def text_scores(
    model: LanguageModel,
    texts: Sequence[str],
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Scores:
    """As `continuation_scores` for every token of a text but its first. For neutral text and perplexity."""
    whole = model.tokens(list(texts))
    one = TokenBatch(whole.ids, whole.mask, torch.ones_like(whole.n_prompt))
    return batch_scores(model, one, stacks, batch_size=batch_size, progress=progress)


def batch_scores(
    model: LanguageModel,
    batch: TokenBatch,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    batch_size: int = 32,
    round_to: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Scores:
    """As `continuation_scores`, for tokens; `round_to` is that of `widened`."""
    tell = progress or silent()
    n_tokens = batch.lengths - batch.n_prompt
    width = max(1, int(n_tokens.max()))
    apart = [lane for lane, stack in enumerate(stacks) if forks.can_fork(model, stack)] if forks.runs_apart(model) else []
    whole = [lane for lane in range(len(stacks)) if lane not in apart]
    share = len(apart) / len(stacks)
    parts: list[Tensor] = []
    if apart:
        mine = [stacks[lane] for lane in apart]
        parts.append(forks.continuation_log_probs(model, batch, mine, round_to=round_to, progress=tell.part(0.0, share)))
    if whole:
        parts.append(plain_scores(model, batch, [stacks[lane] for lane in whole], batch_size, width, round_to, tell.part(share, 1.0)))
    order = torch.tensor([*apart, *whole]).argsort()
    return Scores(torch.cat([part.to(parts[0].device) for part in parts])[order], n_tokens)


def plain_scores(
    model: LanguageModel, batch: TokenBatch, stacks: Sequence[Sequence[Edit]], batch_size: int, width: int, round_to: torch.dtype | None,
    tell: Progress,
) -> Float[Tensor, "lane row token"]:  # fmt: skip
    """As `batch_scores`, row by row and all lanes through all blocks: what a model does that cannot begin in the middle."""
    rows_out: list[Tensor] = []
    for start in range(0, len(batch), batch_size):
        part = batch.rows(slice(start, start + batch_size))
        with torch.no_grad(), lanes(model, stacks):
            rows_out.append(_scored(model, part, len(stacks), width, round_to))
        tell(min(1.0, (start + batch_size) / len(batch)), "Scoring")
    return torch.cat(rows_out, 1)


def _scored(
    model: LanguageModel, part: TokenBatch, n_lanes: int, width: int, round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    whole = part.repeat(n_lanes)
    logits = widened(model.logits(whole)[:, -width - 1 : -1], round_to)
    targets = whole.ids[:, -logits.shape[1] :]
    found = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    column = torch.arange(found.shape[1], device=found.device)
    mine = column >= found.shape[1] - (whole.lengths - whole.n_prompt)[:, None]
    found = torch.where(mine, found, 0.0)
    # Rows end together (left padding); move each to the front so that token 0 is the continuation's first.
    shift = (column + found.shape[1] - (whole.lengths - whole.n_prompt)[:, None]) % found.shape[1]
    found = found.gather(1, shift)
    if found.shape[1] < width:
        found = torch.nn.functional.pad(found, (0, width - found.shape[1]))
    return found.view(n_lanes, len(part), width)
