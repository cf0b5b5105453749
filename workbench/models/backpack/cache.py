"""What cached decoding with a Backpack keeps: body keys and values, weight-net keys, and the senses read so far."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

FIRST_CAPACITY = 64


class GrowingRows:
    """A tensor that grows along one dimension (the second, unless told) by doubling: appending a position copies one position."""

    def __init__(self, dim: int = 1) -> None:
        self._buffer: Tensor | None = None
        self._dim = dim
        self.length = 0

    def append(self, new: Tensor) -> Tensor:
        """Append positions and return all rows so far, as a view."""
        n_new = new.shape[self._dim]
        end = self.length + n_new
        if self._buffer is None or end > self._buffer.shape[self._dim]:
            shape = list(new.shape)
            shape[self._dim] = max(FIRST_CAPACITY, 2 * end)
            grown = new.new_empty(shape)
            if self._buffer is not None:
                grown.narrow(self._dim, 0, self.length).copy_(self.rows())
            self._buffer = grown
        self._buffer.narrow(self._dim, self.length, n_new).copy_(new)
        self.length = end
        return self.rows()

    def rows(self) -> Tensor:
        """Return all rows so far."""
        if self._buffer is None:
            raise IndexError("nothing has been appended yet")
        return self._buffer.narrow(self._dim, 0, self.length)

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

    def selected(self, batch: Int[Tensor, " chosen"]) -> BackpackCache:
        """A cache of the given batch rows, in this order, repeats allowed; this one stays as it is."""
        chosen = copy.copy(self)
        chosen.body = tuple((copy.copy(keys), copy.copy(values)) for keys, values in self.body)
        kept = (copy.copy(rows) for rows in (self.weight_keys, self.senses, self.ids, self.mask))
        chosen.weight_keys, chosen.senses, chosen.ids, chosen.mask = kept
        chosen.select(batch)
        return chosen

    def select(self, batch: Int[Tensor, " chosen"]) -> None:
        """Keep the given batch rows, in this order, repeats allowed: a shared prefill becomes several lanes."""
        for pair in self.body:
            for rows in pair:
                rows.select(batch)
        for rows in (self.weight_keys, self.senses, self.ids, self.mask):
            rows.select(batch)
