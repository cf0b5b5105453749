"""Score given texts: log-probabilities of continuations, several lanes in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench import forks
from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.forks import LOGITS_AT_ONCE, widened
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Bool, Float, Int, Tensor


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
    apart, whole = _told_apart(model, stacks)
    share = len(apart) / len(stacks)
    parts: list[Tensor] = []
    if apart:
        mine = [stacks[lane] for lane in apart]
        parts.append(forks.continuation_log_probs(model, batch, mine, round_to=round_to, progress=tell.part(0.0, share)))
    if whole:
        parts.append(plain_scores(model, batch, [stacks[lane] for lane in whole], batch_size, width, round_to, tell.part(share, 1.0)))
    order = torch.tensor([*apart, *whole]).argsort()
    return Scores(torch.cat([part.to(parts[0].device) for part in parts])[order], n_tokens)


@dataclass(frozen=True)
class Divergences:
    """KL(base ‖ lane) and −log p of the next token, in nats, at the counted tokens of some texts, and the row that each belongs to."""

    kl: Float[Tensor, "lane token"]
    nll: Float[Tensor, "lane token"]
    row: Int[Tensor, " token"]

    def a_row(self, x: Float[Tensor, "lane token"], n_rows: int) -> Float[Tensor, "lane row"]:
        """Means a token of each row; 0 for a row of which no token is counted."""
        sums = torch.zeros(len(x), n_rows, dtype=torch.float64).index_add(1, self.row, x)
        return sums / torch.bincount(self.row, minlength=n_rows).clamp_min(1)


def text_divergences(
    model: LanguageModel,
    batch: TokenBatch,
    stacks: Sequence[Sequence[Edit]],
    counted: Bool[Tensor, "row pos"] | None = None,
    *,
    progress: Progress | None = None,
) -> Divergences:
    """How far each stack moves the next-token distributions on given texts. Memory: one chunk of logits, whatever the number of texts.

    Args:
        counted: where they are compared; all tokens of a text but its last if None.

    Raises: as `engine.lanes`.
    """
    tell = progress or silent()
    where = forks.predicting(batch) if counted is None else counted & batch.mask
    apart, whole = _told_apart(model, stacks)
    kl, nll = (torch.zeros(len(stacks), int(where.sum()), dtype=torch.float64) for _ in range(2))
    share = len(apart) / max(1, len(stacks))
    if apart:
        mine = [stacks[lane] for lane in apart]
        kl[apart], nll[apart], _ = forks.divergences(model, batch, mine, where, progress=tell.part(0.0, share))
    if whole:
        kl[whole], nll[whole] = _plain_divergences(model, batch, [stacks[lane] for lane in whole], where, tell.part(share, 1.0))
    return Divergences(kl, nll, where.nonzero()[:, 0].cpu())


def _plain_divergences(
    model: LanguageModel, batch: TokenBatch, stacks: Sequence[Sequence[Edit]], where: Bool[Tensor, "row pos"], tell: Progress
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"]]:
    step = max(1, LOGITS_AT_ONCE // ((len(stacks) + 1) * batch.ids.shape[1] * model.info.d_vocab))
    kl: list[Tensor] = []
    nll: list[Tensor] = []
    for start in range(0, len(batch), step):
        part, at = batch.rows(slice(start, start + step)), where[start : start + step]
        with torch.no_grad(), lanes(model, [(), *stacks]):
            logits = model.logits(part.repeat(len(stacks) + 1))
        base, *edited = (widened(mine[at]).log_softmax(-1) for mine in logits.view(len(stacks) + 1, *part.ids.shape, -1))
        targets, is_one = part.ids.roll(-1, 1)[at][:, None], forks.predicting(part)[at]
        kl.append(torch.stack([(base.exp() * (base - log_p)).sum(-1) for log_p in edited]).double().cpu())
        nll.append(torch.stack([torch.where(is_one, -log_p.gather(-1, targets)[:, 0], 0.0) for log_p in edited]).double().cpu())
        tell(min(1.0, (start + step) / len(batch)), "Reading neutral text")
    return torch.cat(kl, 1), torch.cat(nll, 1)


def _told_apart(model: LanguageModel, stacks: Sequence[Sequence[Edit]]) -> tuple[list[int], list[int]]:
    """Which lanes depart from one unedited pass, and which run whole."""
    apart = [lane for lane, stack in enumerate(stacks) if forks.can_fork(model, stack)] if forks.runs_apart(model) else []
    return apart, [lane for lane in range(len(stacks)) if lane not in apart]


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
