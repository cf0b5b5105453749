"""Hooks on the modules of a network: put on while somebody uses a place, silent unless the running context asked for it.

A hook is counted, and taken off by its own handle when the last user leaves. What is asked for is data in a context variable, so threads
with different edits on one model never meet, and there is nothing on the model to restore.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from workbench.models.tokens import current_forward
from workbench.operations import by_sequence, with_expert
from workbench.progress import asked_progress
from workbench.shapes import Activations, Tensor

ReadWrite = Callable[[Activations], "Activations | None"]
WeightTerm = Callable[[nn.Module, Tensor, Tensor], Tensor]
CallReader = Callable[[tuple[Any, ...], dict[str, Any]], None]


@dataclass(frozen=True)
class Point:
    """Where a hook sits: the input or output of a module, the weight term beside it, one expert of those it runs, or the whole call, which
    is only read.

    `columns` are a head's slice of the width.
    """

    module: nn.Module
    side: Literal["in", "out", "weight", "expert", "call"]
    columns: slice | None = None
    expert: int = 0

    @property
    def key(self) -> tuple[int, str]:
        """What points of one hook have in common."""
        return (id(self.module), f"{self.side}.{self.expert}" if self.side == "expert" else self.side)


def columns_of(index: int | None, width: int) -> slice | None:
    """The columns of one head or sense among several side by side; None for all of them."""
    return None if index is None else slice(index * width, (index + 1) * width)


_plan: ContextVar[Mapping[tuple[int, str], tuple[Any, ...]]] = ContextVar("plan", default={})  # noqa: B039 - never mutated


def is_quiet() -> bool:
    """Whether no context of this thread asks for anything: forwards are those of the plain network."""
    return not _plan.get()


def make_stoppable(blocks: Iterable[nn.Module]) -> None:
    """Let each block ask, before it runs and before its gradient goes back, whether the owner of the work wants it to stop.

    A batch takes seconds on a model of size, a block a fraction of one. These hooks stay: they belong to the model, and change nothing.
    """
    for block in blocks:
        block.register_forward_pre_hook(_stop_here, with_kwargs=True)


def _stop_here(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    owner = asked_progress()
    if owner is None:
        return
    owner.stop_if_asked()
    entering = args[0] if args else kwargs.get("hidden_states")
    if isinstance(entering, torch.Tensor) and entering.requires_grad:
        # The owner is named, not looked up: on some devices gradients run in threads of torch's own.
        entering.register_hook(lambda _: owner.stop_if_asked())


@final
class Hooks:
    """Hooks that are on the modules of one model now, with the number of contexts that use each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[tuple[int, str], tuple[RemovableHandle, int]] = {}

    @contextmanager
    def asked(
        self,
        readers: Sequence[tuple[Point, ReadWrite]],
        terms: Sequence[tuple[Point, WeightTerm]] = (),
        calls: Sequence[tuple[Point, CallReader]] = (),
    ) -> Generator[None]:
        """Within this context, call each function at its point, those of outer contexts first."""
        entries: list[tuple[Point, Any]] = [*((point, _on_columns(point, fn)) for point, fn in readers), *terms, *calls]
        plan = dict(_plan.get())
        for point, fn in entries:
            plan[point.key] = (*plan.get(point.key, ()), fn)
        taken: list[Point] = []
        token = _plan.set(plan)
        try:
            for point, _ in entries:
                self._take(point)
                taken.append(point)
            yield
        finally:
            _plan.reset(token)
            for point in taken:
                self._give(point)

    def _take(self, point: Point) -> None:
        with self._lock:
            handle, count = self._counted.get(point.key, (None, 0))
            self._counted[point.key] = (handle or _install(point), count + 1)

    def _give(self, point: Point) -> None:
        with self._lock:
            handle, count = self._counted.pop(point.key)
            if count > 1:
                self._counted[point.key] = (handle, count - 1)
            else:
                handle.remove()


def _on_columns(point: Point, fn: ReadWrite) -> ReadWrite:
    if point.columns is None:
        return fn
    columns = point.columns

    def act(x: Activations) -> Activations | None:
        part = fn(x[..., columns])
        if part is None:
            return None
        whole = x.clone()
        whole[..., columns] = part
        return whole

    return act


def _install(point: Point) -> RemovableHandle:
    key = point.key

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        fns = _plan.get().get(key)
        if not fns:
            return None
        if args:
            return (_by_token(fns, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _by_token(fns, kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        fns = _plan.get().get(key)
        if not fns:
            return None
        if isinstance(output, tuple):
            return (_by_token(fns, output[0]), *output[1:])
        return _by_token(fns, output)

    def beside(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        fns = _plan.get().get(key)
        if not fns:
            return None
        for fn in fns:
            output = fn(module, args[0], output)
        return output

    def routed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        fns = _plan.get().get(key)
        if not fns:
            return None
        tokens, index, weight = (*args, *kwargs.values())
        run: Any = module.forward  # past the hooks, which this is one of
        return with_expert(output, run, point.expert, (tokens, index, weight), lambda own: _by_token(fns, own))

    def called(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for fn in _plan.get().get(key, ()):
            fn(args, kwargs)

    if point.side == "call":
        return point.module.register_forward_pre_hook(called, with_kwargs=True)
    if point.side == "expert":
        return point.module.register_forward_hook(routed, with_kwargs=True)
    if point.side == "in":
        return point.module.register_forward_pre_hook(before, with_kwargs=True)
    return point.module.register_forward_hook(after if point.side == "out" else beside)


def _through(fns: tuple[ReadWrite, ...], x: Tensor) -> Tensor:
    for fn in fns:
        changed = fn(x)
        x = x if changed is None else changed
    return x


def _by_token(fns: tuple[ReadWrite, ...], x: Tensor) -> Tensor:
    rows = _rows(x)
    return x if (y := _through(fns, rows)) is rows else y.view(x.shape)


def _rows(x: Tensor) -> Tensor:
    """Activations as (batch, pos, width), as far as the running forward says how many tokens it has."""
    forward = current_forward()
    return x if forward is None else by_sequence(x, forward.real)
