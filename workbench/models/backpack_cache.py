"""What cached decoding with a Backpack keeps: body keys and values, weight-net keys, and the senses read so far."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

FIRST_CAPACITY = 64


class GrowingRows:
    """A tensor that grows along dimension 1 by doubling, so that appending one position copies one position."""

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self.length = 0

    def append(self, new: Tensor) -> Tensor:
        """Append (batch, new, ...) and return all rows so far, as a view."""
        end = self.length + new.shape[1]
        if self._buffer is None or end > self._buffer.shape[1]:
            grown = new.new_empty(new.shape[0], max(FIRST_CAPACITY, 2 * end), *new.shape[2:])
            if self._buffer is not None:
                grown[:, : self.length] = self._buffer[:, : self.length]
            self._buffer = grown
        self._buffer[:, self.length : end] = new
        self.length = end
        return self._buffer[:, :end]

    def rows(self) -> Tensor:
        """Return all rows so far."""
        if self._buffer is None:
            raise IndexError("nothing has been appended yet")
        return self._buffer[:, : self.length]

    def select(self, batch: Int[Tensor, " chosen"]) -> None:
        """Keep the given batch rows, in this order, repeats allowed."""
        if self._buffer is not None:
            self._buffer = self._buffer[batch]


class SenseMemo:
    """Senses per word type, computed when first met: C depends on the word type only."""

    def __init__(self, n_types: int, compute: Callable[[Tensor], Tensor]) -> None:
        self._compute = compute
        self._row_of = torch.full((n_types,), -1, dtype=torch.long)
        self._table = GrowingRows()

    def __call__(self, ids: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return the senses of each id."""
        row_of = self._row_of = self._row_of.to(ids.device)
        unknown = ids[row_of[ids] < 0].unique()
        if unknown.numel():
            row_of[unknown] = self._table.length + torch.arange(unknown.numel(), device=ids.device)
            self._table.append(self._compute(unknown)[None])
        return self._table.rows()[0][row_of[ids]]


class BackpackCache:
    """The state of a decode; one per batch, never shared between threads."""

    def __init__(self, n_layers: int, memo: SenseMemo) -> None:
        self.memo = memo
        self._n_layers = n_layers
        self.clear()

    def clear(self) -> None:
        """Forget every position; the memo of word types stays."""
        self.body = tuple((GrowingRows(), GrowingRows()) for _ in range(self._n_layers))
        self.weight_keys, self.senses, self.ids, self.mask = (GrowingRows() for _ in range(4))

    @property
    def length(self) -> int:
        """Positions held."""
        return self.ids.length

    def select(self, batch: Int[Tensor, " chosen"]) -> None:
        """Keep the given batch rows, in this order, repeats allowed: a shared prefill becomes several lanes."""
        for pair in self.body:
            for rows in pair:
                rows.select(batch)
        for rows in (self.weight_keys, self.senses, self.ids, self.mask):
            rows.select(batch)
