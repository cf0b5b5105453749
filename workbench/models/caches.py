"""Caches of a network that grow in place, and of which rows can be taken: keys and values, the states of recurrent layers, or both."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from workbench.models.backpack.cache import GrowingRows
from workbench.operations import CACHES
from workbench.shapes import Int, Tensor


def cache_name(network: nn.Module) -> str | None:
    """What the network's forward calls its cache; None where it takes none of transformers' caches (RWKV's state)."""
    names = inspect.signature(network.forward).parameters
    return next((name for name in CACHES if name in names), None)


def new_cache(network: Any) -> Any:
    """An empty cache with a layer for each of the network's."""
    cache: Any = DynamicCache(config=network.config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def selected(cache: Any, rows: Int[Tensor, " chosen"]) -> Any:
    """A cache of some rows of another, in this order, repeats allowed; the other stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [_copied(layer) for layer in cache.layers]
    for layer in chosen.layers:
        if isinstance(layer, LinearAttentionLayer):
            layer.reorder_cache(rows)  # pyright: ignore[reportArgumentType] # takes the rows of its own states, and of keys and values where it has them too
        elif layer.is_initialized:
            layer.batch_select_indices(rows)
    return chosen


def _copied(layer: Any) -> Any:
    """A layer whose states may be replaced without touching the other's; the tensors are shared until then."""
    own = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(own, name, dict(value))  # pyright: ignore[reportUnknownArgumentType]
    return own


class _GrowingLayer(DynamicLayer):
    """Keys and values in buffers that double: transformers copies the whole cache for every token, which six lanes pay six times."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._rows = (GrowingRows(dim=2), GrowingRows(dim=2))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self._rows
        self.keys, self.values = keys.append(key_states), values.append(value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.keys is not None and self.values is not None:
            at = indices.to(self.keys.device)
            kept = self.keys[at], self.values[at]
            self._rows = (GrowingRows(dim=2), GrowingRows(dim=2))
            self.keys, self.values = (rows.append(part) for rows, part in zip(self._rows, kept))
