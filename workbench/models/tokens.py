"""Token batches, and what the running forward knows about its positions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from workbench.conversations import Conversation, Prompt
from workbench.errors import BadPrompt
from workbench.models.chat import chat_ids
from workbench.operations import Forward
from workbench.shapes import Bool, Int, Tensor, TokenIds

_forward: ContextVar[Forward | None] = ContextVar("forward", default=None)


@contextmanager
def running(forward: Forward) -> Generator[None]:
    """Within this context, `current_forward()` is `forward`."""
    token = _forward.set(forward)
    try:
        yield
    finally:
        _forward.reset(token)


def current_forward() -> Forward | None:
    """What the running forward knows about its positions; None outside `LanguageModel.logits` and `step`."""
    return _forward.get()


@dataclass(frozen=True)
class TokenBatch:
    """Token ids padded on the left, the mask of real tokens, and how many real tokens of each row are prompt.

    The mask is of every column seen so far: a batch that goes on from a cache holds the new ids alone.
    """

    ids: TokenIds
    mask: Bool[Tensor, "batch seen"]
    n_prompt: Int[Tensor, " batch"]

    @staticmethod
    def encode(
        tokenizer: Any,
        text: Prompt | Sequence[Prompt],
        continuation: str | Sequence[str] | None,
        *,
        n_ctx: int,
        device: torch.device,
    ) -> TokenBatch:
        """Tokenise prompts and continuations, joined as ids.

        A text keeps the tokenizer's own special tokens, a conversation is rendered by its template, a continuation gets none.

        Raises:
            BadPrompt: something is empty, too long for the context, or the numbers of prompts and continuations differ.
        """
        prompts = [text] if isinstance(text, (str, Conversation)) else list(text)
        ends = [continuation] if isinstance(continuation, str) else continuation
        if not prompts:
            raise BadPrompt("There is no prompt.", "Give at least one prompt.")
        if ends is not None and len(ends) != len(prompts):
            raise BadPrompt(f"Got {len(prompts)} prompts and {len(ends)} continuations.", "Give one continuation a prompt.")
        rows = [prompt_ids(tokenizer, prompt) for prompt in prompts]
        n_prompt = [len(row) for row in rows]
        if ends is not None:
            rows = [row + _ids(tokenizer, end, "continuation", special=False) for row, end in zip(rows, ends)]
        longest = max(len(row) for row in rows)
        if longest > n_ctx:
            raise BadPrompt(f"A prompt is {longest} tokens long; the model's context holds {n_ctx}.", "Shorten the prompt or its answer.")
        return TokenBatch.of(rows, n_prompt, device)

    @staticmethod
    def of(rows: Sequence[Sequence[int]], n_prompt: Sequence[int] | None, device: torch.device | str = "cpu") -> TokenBatch:
        """Pad rows of ids on the left with id 0, which the mask hides."""
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[i, longest - len(row) :] = True
        counts = torch.tensor([len(row) for row in rows] if n_prompt is None else list(n_prompt))
        return TokenBatch(ids.to(device), mask.to(device), counts.to(device))

    @property
    def positions(self) -> Int[Tensor, "batch pos"]:
        """Absolute position of each real token in its own row; 0 on padding."""
        return (self.mask.long().cumsum(-1) - 1).clamp_min(0)

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Real tokens of each row."""
        return self.mask.sum(-1)

    @property
    def real_ids(self) -> list[list[int]]:
        """The ids of each row, without its padding."""
        return [row[mask].tolist() for row, mask in zip(self.ids, self.mask)]

    def forward(self, n_before: int = 0) -> Forward:
        """What a forward over the columns from `n_before` on knows about its positions."""
        at, n_prompt = self.positions, self.n_prompt[:, None]
        prompt, generated = self.mask & (at < n_prompt), self.mask & (at >= n_prompt - 1)
        read = (self.ids, self.mask) if self.ids.shape == self.mask.shape else None
        return Forward(self.mask, prompt, generated, at - (n_prompt - 1), read).of(lambda part: part[:, n_before:])

    def after(self, n_before: int) -> TokenBatch:
        """The ids from column `n_before` on, with the mask of all columns (a cache needs it whole)."""
        return TokenBatch(self.ids[:, n_before:], self.mask, self.n_prompt)

    def append(self, ids: Int[Tensor, " batch"]) -> TokenBatch:
        """One more generated token a row."""
        grown = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        return TokenBatch(torch.cat([self.ids, ids[:, None]], 1), grown, self.n_prompt)

    def repeat(self, times: int) -> TokenBatch:
        """The whole batch `times` over, one copy after another: row group i is lane i."""
        return TokenBatch(self.ids.repeat(times, 1), self.mask.repeat(times, 1), self.n_prompt.repeat(times))

    def rows(self, index: slice | Tensor) -> TokenBatch:
        """Some rows, with their padding."""
        return TokenBatch(self.ids[index], self.mask[index], self.n_prompt[index])

    def trimmed(self) -> TokenBatch:
        """Without the columns that are padding in every row."""
        longest = int(self.lengths.max())
        return TokenBatch(self.ids[:, -longest:], self.mask[:, -longest:], self.n_prompt)

    def __len__(self) -> int:
        return self.ids.shape[0]


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The token ids of a prompt: a text with the tokenizer's own special tokens, a conversation by its template.

    Raises:
        BadPrompt: it is empty, or the template refuses it.
    """
    return chat_ids(tokenizer, prompt) if isinstance(prompt, Conversation) else _ids(tokenizer, prompt, "prompt", special=True)


def _ids(tokenizer: Any, text: str, what: str, *, special: bool) -> list[int]:
    ids: list[int] = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    if not text or not ids:
        raise BadPrompt(f"The {what} is empty.", f"Write a {what} of at least one token.")
    return ids
