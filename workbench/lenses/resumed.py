"""Runs that begin in the middle: copies of one row go on from any block, each with a change of its own, at the price of what is left.

Law: what enters block l does not depend on what happens at block l or behind it, so a change there needs blocks l … L − 1 alone.
Where a network cannot begin in the middle (`LanguageModel.blocks` is empty) the copies run whole, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch, running
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

COPIED_TOKENS = 1024
"""Tokens of all copies together: more take memory, and are no faster on a processor."""


def copies_at_once(n_changes: int, n_tokens: int) -> int:
    """How many copies to run side by side, so that the last group is hardly smaller than the others."""
    most = max(1, COPIED_TOKENS // n_tokens)
    return -(-n_changes // -(-n_changes // most))


@final
class Resumable:
    """One row, run once in `n` copies to note how its blocks are called. Edits whose contexts are open around it act, then as later."""

    def __init__(self, model: LanguageModel, row: TokenBatch, n: int):
        self._model, self._batch = model, row.repeat(n)
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._left: list[Tensor] = []
        blocks = model.blocks

        def called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls.append((args[1:], {key: value for key, value in kwargs.items() if key != "hidden_states"}))

        def left(x: Activations) -> None:
            self._left.append(x[:1].clone())

        watched = [(block, called) for block in blocks]
        with torch.no_grad(), model.watching(watched), model.intercepts([(Site("resid_post", i), left) for i in range(len(blocks))]):
            self._base = self._whole()

    @property
    def logits(self) -> Float[Tensor, " d_vocab"]:
        """What follows the row's last token where nothing is changed."""
        return self._base[0]

    @torch.no_grad()
    def changed(self, layer: int, changes: Sequence[tuple[Site, ReadWrite]]) -> Float[Tensor, "copy d_vocab"]:
        """The logits behind the last token of every copy, with functions acting at sites of block `layer` or behind it."""
        with self._model.intercepts(changes):
            return self._whole() if layer == 0 or not self._calls else self._from(layer)

    def _whole(self) -> Tensor:
        with running(self._batch.forward()):
            return self._model.run(self._batch, last_only=True)[0][:, -1]

    def _from(self, layer: int) -> Tensor:
        x, forward = self._left[layer - 1].expand(len(self._batch), -1, -1), self._batch.forward()
        with running(forward):
            for block, (args, kwargs) in zip(self._model.blocks[layer:], self._calls[layer:]):
                out: Any = block(x, *args, **kwargs)
                x = out[0] if isinstance(out, tuple) else out
        with running(forward.of(lambda part: part[:, -1:])):
            return self._model.unembed(x[:, -1:])[:, -1]
