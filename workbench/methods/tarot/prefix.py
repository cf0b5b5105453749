"""Activations before the first edited layer, computed once for a whole search.

The network is copied shallowly, weights shared, and its blocks below the first edited one are replaced: they hand on what they get, and
the last of them hands out the activations that it recorded, once for every lane. Nothing on the live model changes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch, running
from workbench.shapes import Tensor
from workbench.sites import Site


class _Record(nn.Module):
    """A block that keeps what it returns."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.seen = block, list[Any]()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(self.block(*args, **kwargs))
        return self.seen[-1]


class _HandOn(nn.Module):
    """A block that does nothing, in the output form of the block in whose place it stands."""

    def __init__(self, n_more: int | None) -> None:
        super().__init__()
        self.n_more = n_more

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return hidden_states if self.n_more is None else (hidden_states, *[None] * self.n_more)


class _Recall(_HandOn):
    """The last block below the edit: it returns the recorded stream, repeated for the lanes."""

    def __init__(self, n_more: int | None, recorded: Tensor, n_lanes: int) -> None:
        super().__init__(n_more)
        self.recorded, self.n_lanes = recorded, n_lanes

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return super().forward(self.recorded.repeat(self.n_lanes, 1, 1))


@final
@dataclass(frozen=True, eq=False)
class Prefix:
    """Hold the residual stream of a batch just below `layer`; a block returns `n_more` values behind it (None: it returns no tuple)."""

    model: LanguageModel
    batch: TokenBatch
    layer: int
    recorded: Tensor
    n_more: int | None

    @classmethod
    def of(cls, model: LanguageModel, batch: TokenBatch, layer: int) -> Prefix:
        """Run the batch once and record the output of the block below `layer`."""
        block = model.point(Site("resid_post", layer - 1)).module
        record = _Record(block)
        with torch.no_grad(), running(batch.forward()):
            _with_blocks(model, {layer - 1: record}).run(batch, last_only=True)
        output = record.seen[0]
        if isinstance(output, tuple):
            return cls(model, batch, layer, output[0], len(output) - 1)  # pyright: ignore[reportUnknownArgumentType]
        return cls(model, batch, layer, output, None)

    def network(self, n_lanes: int) -> LanguageModel:
        """Return the model with its lower blocks replaced, for a batch repeated `n_lanes` times."""
        lower: dict[int, nn.Module] = {index: _HandOn(self.n_more) for index in range(self.layer - 1)}
        return _with_blocks(self.model, lower | {self.layer - 1: _Recall(self.n_more, self.recorded, n_lanes)})


def _with_blocks(model: LanguageModel, stand_ins: dict[int, nn.Module]) -> LanguageModel:
    """Return a shallow copy of the model in which some blocks are others; every other module is the live one."""
    network: Any = model.network
    first = model.point(Site("resid_post", 0)).module
    path = next(name for name, module in network.named_modules() if module is first).split(".")[:-1]
    root = node = _copied(network)
    for name in path[:-1]:
        child = _copied(getattr(node, name))
        node._modules[name] = child
        node = child
    blocks: list[Any] = list(getattr(node, path[-1]))
    for index, stand_in in stand_ins.items():
        # Hugging Face chooses a block's mask by an attribute: `attention_type`, `layer_type`, `block_type`.
        for name, value in vars(blocks[index]).items():
            if isinstance(value, (str, int)) and name not in vars(stand_in):
                setattr(stand_in, name, value)
        blocks[index] = stand_in
    node._modules[path[-1]] = nn.ModuleList(blocks)
    shallow: Any = copy.copy(model)
    shallow._network = root
    return shallow


def _copied(module: nn.Module) -> Any:
    twin: Any = copy.copy(module)
    twin._modules = dict(twin._modules)
    return twin
