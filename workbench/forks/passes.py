"""One run of the unedited network, and the lanes that depart from it at the first block they change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.edits.base import Edit
from workbench.edits.engine import act, planned
from workbench.models.base import LanguageModel
from workbench.models.hooks import is_quiet
from workbench.models.tokens import TokenBatch, running
from workbench.operations import AddToWeight, TransformAt, transformed
from workbench.shapes import Float, Tensor
from workbench.sites import Site

SHARED = ("all", "prompt", "generated")
"""Position rules that mean the same whether a row runs whole or its prompt apart."""
_CACHE = object()


def fork_of(model: LanguageModel, stack: Sequence[Edit]) -> int | None:
    """The block at whose input a stack first differs from the unedited model: n_layers behind the last, None where nothing begins there.

    0 and None differ in that a stack which changes what comes before the blocks (embeddings) has to run whole.
    """
    first = model.info.n_layers
    for operation in (op for edit in stack for op in edit.operations()):
        site = operation.site
        if site.kind in ("ln_final", "w_u"):
            continue
        layer = _layer_of(model, site)
        if layer is None:
            return None
        first = min(first, layer + (site.kind == "resid_post"))
    return first


def _layer_of(model: LanguageModel, site: Site) -> int | None:
    if site.kind != "param":
        return site.layer
    owner = model.raw_parameter(site).module
    return next((layer for layer, block in enumerate(model.blocks) if any(module is owner for module in block.modules())), None)


def can_fork(model: LanguageModel, stack: Sequence[Edit]) -> bool:
    """Whether a stack may depart from the unedited pass."""
    operations = [op for edit in stack for op in edit.operations()]
    plain = all(isinstance(op, AddToWeight) or (op.where in SHARED and not op.sees_call) for op in operations)
    return plain and fork_of(model, stack) is not None


def runs_apart(model: LanguageModel) -> bool:
    """Whether this model's forward can be taken apart here: it has blocks, and nobody around this call edits it."""
    return bool(model.blocks) and is_quiet()


@dataclass
class Pass:
    """One run of the unedited network: how each block was called, what entered the blocks at which lanes fork, what left the last."""

    batch: TokenBatch
    n_before: int
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    entering: dict[int, Tensor]

    @property
    def n_bytes(self) -> int:
        """Memory of all tensors, each counted once."""
        tensors = [*self.entering.values(), *(t for args, kwargs in self.calls for t in _tensors((args, kwargs)))]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))  # pyright: ignore[reportUnknownArgumentType]


def unedited_pass(model: LanguageModel, batch: TokenBatch, n_before: int, cache: Any, forks: Sequence[int]) -> Pass:
    """Run the network on the columns from `n_before` on, noting what lanes need that fork at `forks`."""
    blocks = model.blocks
    done = Pass(batch, n_before, [], {})

    def called(layer: int) -> Any:
        def note(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            if layer in forks:
                done.entering[layer] = x
            kept = {key: _without(value, cache) for key, value in kwargs.items() if key != "hidden_states"}
            done.calls.append((tuple(_without(value, cache) for value in args[1:]), kept))

        return note

    def left(x: Tensor) -> None:
        done.entering[len(blocks)] = x

    with (
        model.watching([(block, called(layer)) for layer, block in enumerate(blocks)], [(blocks[-1], left)]),
        running(batch.forward(n_before)),
    ):
        model.run(batch.after(n_before), cache, last_only=True)
    return done


def _without(value: Any, cache: Any) -> Any:
    return _CACHE if cache is not None and value is cache else value


def onward(
    model: LanguageModel, fork: int, done: Pass, x: Float[Tensor, "lane_row pos d_model"], n_lanes: int, cache: Any
) -> Float[Tensor, "lane_row pos d_model"]:
    """What leaves the last block where `x` enters block `fork`, lane after lane; keys and values of the blocks that ran join `cache`."""
    n_rows = len(done.batch)
    with running(done.batch.repeat(n_lanes).forward(done.n_before)):
        for block, (args, kwargs) in zip(model.blocks[fork:], done.calls[fork:]):
            out: Any = block(x, *_repeated(args, n_lanes, n_rows, cache), **_repeated(kwargs, n_lanes, n_rows, cache))
            x = out[0] if isinstance(out, tuple) else out
    return x


class Group:
    """Lanes that fork at one block and run side by side from there."""

    def __init__(self, model: LanguageModel, fork: int, lanes: Sequence[int], stacks: Sequence[Sequence[Edit]]) -> None:
        self.fork, self.lanes = fork, list(lanes)
        self._model, self._stacks = model, stacks
        self._entered = planned(model, stacks)
        self._changes_head = any(op.site.kind in ("ln_final", "w_u") for stack in stacks for edit in stack for op in edit.operations())
        at = Site("resid_post", fork - 1)
        self._first = [
            [op for edit in stack for op in edit.operations() if isinstance(op, TransformAt) and op.site == at] for stack in stacks
        ]

    def from_here(self, done: Pass, cache: Any) -> Float[Tensor, "lane_row pos d_model"]:
        """What leaves the last block, lane after lane; keys and values of the blocks that ran are added to `cache`."""
        n = len(self._stacks)
        forward = done.batch.forward(done.n_before)
        parts: list[Tensor] = []
        for first in self._first:
            x = done.entering[self.fork]
            for op in first:
                x = _acted(op, x, forward)
            parts.append(x)
        with self._entered():
            return onward(self._model, self.fork, done, torch.cat(parts), n, cache)

    def logits_of(self, at: int, x: Float[Tensor, "lane token d_model"]) -> Float[Tensor, "token d_vocab"]:
        """The logits of one lane of the group; `x` are those of all."""
        return self.logits(x)[at] if self._changes_head else self._model.unembed(x[at : at + 1])[0]

    def logits(self, x: Float[Tensor, "lane token d_model"]) -> Float[Tensor, "lane token d_vocab"]:
        """Through the final norm and the unembedding, as each lane has them."""
        if not self._changes_head:
            return self._model.unembed(x)
        with self._entered():
            return self._model.unembed(x)


def _acted(op: TransformAt, x: Tensor, forward: Any) -> Tensor:
    return transformed(op, x, forward) if op.needs_forward else act(op, x)


def _repeated(value: Any, n: int, n_rows: int, cache: Any) -> Any:
    """A block's argument for n lanes: tensors with a row a sequence are repeated, those that broadcast stay."""
    if value is _CACHE:
        return cache
    if isinstance(value, Tensor):
        return value.repeat(n, *(1 for _ in value.shape[1:])) if value.ndim > 1 and value.shape[0] == n_rows > 1 else value
    if isinstance(value, tuple):
        return tuple(_repeated(item, n, n_rows, cache) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _repeated(item, n, n_rows, cache) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def lane_groups(model: LanguageModel, stacks: Sequence[Sequence[Edit]], at_once: int) -> list[Group]:
    """Lanes by the block at which they fork, at most `at_once` side by side, those that equal the unedited model left out."""
    by_fork: dict[int, list[int]] = {}
    for lane, stack in enumerate(stacks):
        fork = fork_of(model, stack)
        if fork is not None and any(edit.operations() for edit in stack):
            by_fork.setdefault(fork, []).append(lane)
    parts = [(fork, lanes[i : i + at_once]) for fork, lanes in by_fork.items() for i in range(0, len(lanes), at_once)]
    return [Group(model, fork, lanes, [stacks[lane] for lane in lanes]) for fork, lanes in parts]
