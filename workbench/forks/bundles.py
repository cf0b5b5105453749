"""Rows cut into what runs together: prompts of about one length once, then all their answers, the short ones apart from the long ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.models.tokens import TokenBatch
from workbench.shapes import Int, Tensor

TOKENS_AT_ONCE = 512
"""Tokens × lanes that run together."""
LEAST_TOKENS, MOST_PADDED = 128, 1.05
"""Fewer tokens together cost more each than this share of padding."""
BUNDLE_TOKENS = 4096
"""Tokens of answers at most whose prompts run together: what enters the blocks at which lanes fork is held for so many."""
SELECTED_TOKENS = 8192
"""Tokens × lanes at most of which keys and values are copied for the answers that run together."""
_ANSWERS_A_PART = 256


@dataclass(frozen=True)
class Ends:
    """Answers of about one length, in `batch` behind their prompts: padded behind, without their last token, which is only scored."""

    batch: TokenBatch
    of_prompt: Int[Tensor, " row"]
    rows: list[int]
    """Which rows of the whole batch these are."""
    targets: Int[Tensor, "row token"]
    n_tokens: Int[Tensor, " row"]

    @property
    def is_fed(self) -> bool:
        """Whether any of these answers has a token that is read and not only scored."""
        return self.targets.shape[1] > 1


@dataclass(frozen=True)
class Bundle:
    """Some prompts with their answers. Rows are counted through all `ends`, one after another."""

    prompts: TokenBatch
    ends: tuple[Ends, ...]

    @property
    def rows(self) -> list[int]:
        """Which rows of the whole batch these are."""
        return [row for end in self.ends for row in end.rows]

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(end.targets.shape[1] for end in self.ends)

    @property
    def lanes_at_once(self) -> int:
        """How many lanes may run side by side."""
        fed = [end for end in self.ends if end.is_fed]
        run = max(self.prompts.ids.numel(), *(end.targets[:, 1:].numel() for end in fed), 1)
        copied = max((end.batch.ids.numel() for end in fed), default=1)
        return min(side_by_side(run), max(1, SELECTED_TOKENS // copied))

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells its passes from those of other rows."""
        held = (self.prompts.ids, *(x for end in self.ends for x in (end.of_prompt, end.targets, end.n_tokens)))
        return tuple(x.numpy(force=True).tobytes() for x in held)


def side_by_side(n_tokens: int) -> int:
    """How many lanes may run together on so many tokens."""
    return max(1, TOKENS_AT_ONCE // n_tokens)


def bundles(batch: TokenBatch) -> Iterator[Bundle]:
    """Cut rows into bundles. They don't depend on lanes, so that what was kept of one evaluation serves another."""
    ids = batch.real_ids
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, (row, n) in enumerate(zip(ids, batch.n_prompt.tolist())):
        by_prompt.setdefault(tuple(row[:n]), []).append(i)
    taken: list[tuple[tuple[int, ...], Sequence[int]]] = []
    n_answer = 0
    for prompt, mine in sorted(by_prompt.items(), key=lambda item: len(item[0])):
        for rows in (mine[at : at + _ANSWERS_A_PART] for at in range(0, len(mine), _ANSWERS_A_PART)):
            behind = sum(len(ids[i]) - len(prompt) for i in rows)
            if taken and ((len(taken) + 1) * len(prompt) > TOKENS_AT_ONCE or n_answer + behind > BUNDLE_TOKENS):
                yield _bundle(taken, ids, batch.ids.device)
                taken, n_answer = [], 0
            taken.append((prompt, rows))
            n_answer += behind
    yield _bundle(taken, ids, batch.ids.device)


def _bundle(taken: Sequence[tuple[tuple[int, ...], Sequence[int]]], ids: list[list[int]], device: torch.device) -> Bundle:
    prompts = TokenBatch.of([prompt for prompt, _ in taken], None, device)
    answers = [(ids[i][len(prompt) :], at, i) for at, (prompt, mine) in enumerate(taken) for i in mine]
    answers.sort(key=lambda one: len(one[0]))
    parts = _parts([len(end) for end, _, _ in answers], prompts.ids.shape[1])
    return Bundle(prompts, tuple(_ends(answers[part], prompts) for part in parts))


def _parts(lengths: Sequence[int], before: int = 0) -> Iterator[slice]:
    """Cut ascending lengths into what runs together: not too many tokens, and no more padding than a full pass is worth."""
    start, held = 0, 0
    for stop, length in enumerate(lengths):
        n = stop + 1 - start
        most = n * length > TOKENS_AT_ONCE or n * (length + before) > SELECTED_TOKENS
        if n > 1 and (most or (held >= LEAST_TOKENS and n * length > MOST_PADDED * (held + length))):
            yield slice(start, stop)
            start, held = stop, 0
        held += length
    yield slice(start, len(lengths))


def _ends(answers: Sequence[tuple[list[int], int, int]], prompts: TokenBatch) -> Ends:
    device, longest = prompts.ids.device, max(len(end) for end, _, _ in answers)
    of_prompt = torch.tensor([at for _, at, _ in answers], device=device)
    targets = torch.tensor([end + [0] * (longest - len(end)) for end, _, _ in answers], device=device)
    n_tokens = torch.tensor([len(end) for end, _, _ in answers], device=device)
    shown = torch.arange(longest - 1, device=device)[None] < (n_tokens - 1)[:, None]
    batch = TokenBatch(
        torch.cat([prompts.ids[of_prompt], targets[:, :-1]], 1),
        torch.cat([prompts.mask[of_prompt], shown], 1),
        prompts.n_prompt[of_prompt],
    )
    return Ends(batch, of_prompt, [i for _, _, i in answers], targets, n_tokens)


def of_like_length(lengths: Int[Tensor, " row"]) -> Iterator[Int[Tensor, " part"]]:
    """The numbers of rows that run together, the shortest first, so many that their padded tokens are not too many (or one row)."""
    order = lengths.argsort(stable=True)
    for part in _parts(lengths[order].tolist()):
        yield order[part]
