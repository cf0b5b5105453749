"""Hooks on the modules of a network: put on while somebody uses a place, silent unless the running context asked for it.

A hook knows its users, and is taken off when the last one leaves. What is asked for is data in a context variable, so threads with
different edits on one model never meet, and there is nothing on the model to restore. An interrupt may come between any two lines: who asks
is noted before a hook is put on, and what was not taken off goes when the note does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import nn

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


@final
@dataclass(eq=False)
class _Plan:
    """What a context asks for at each point, with what those around it ask for; nothing, once it is over."""

    fns: Mapping[tuple[int, str], tuple[Any, ...]]
    outer: _Plan | None = None
    is_over: bool = False


_plan: ContextVar[_Plan] = ContextVar("plan", default=_Plan({}))  # noqa: B039 - the default is never over


def _current() -> _Plan:
    """The innermost plan that is not over: an interrupt may have kept one from being put back."""
    plan = _plan.get()
    while plan.is_over and plan.outer is not None:
        plan = plan.outer
    return plan


def is_quiet() -> bool:
    """Whether no context of this thread asks for anything: forwards are those of the plain network."""
    return not _current().fns


@dataclass(eq=False)
class _Held:
    """A hook, and the plans that use it."""

    point: Point
    fn: Callable[..., Any]
    users: set[_Plan] = field(default_factory=set["_Plan"])


def make_stoppable(blocks: Iterable[nn.Module]) -> None:
    """Let each block ask, before it runs and before its gradient goes back, whether the owner of the work wants it to stop.

    A batch takes seconds on a model of size, a block a fraction of one. These hooks stay: they belong to the model, and change nothing.
    """
    for block in blocks:
        block.register_forward_pre_hook(_stop_here, with_kwargs=True)


def clear_hooks(network: Any) -> None:
    """Take every hook off a copy of a network but those by which its blocks can be stopped."""
    for module in network.modules():
        module._forward_hooks.clear()
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is not _stop_here:
                del module._forward_pre_hooks[key]


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
    """Hooks that are on the modules of one model now, with the contexts that use each."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: dict[tuple[int, str], _Held] = {}

    @contextmanager
    def asked(
        self,
        readers: Sequence[tuple[Point, ReadWrite]],
        terms: Sequence[tuple[Point, WeightTerm]] = (),
        calls: Sequence[tuple[Point, CallReader]] = (),
    ) -> Generator[None]:
        """Within this context, call each function at its point, those of outer contexts first."""
        use = _Use(self, [*((point, _on_columns(point, fn)) for point, fn in readers), *terms, *calls])
        token = None
        try:
            token = _plan.set(use.plan)
            use.begin()
            yield
        finally:
            use.end()
            if token is not None:
                _plan.reset(token)

    def take(self, point: Point, user: _Plan) -> None:
        """Put the hook of a point on, unless it is, and note who uses it."""
        with self._lock:
            held = self._held.get(point.key) or _Held(point, _hook(point))
            held.users.add(user)
            self._held[point.key] = held
            try:
                _put_on(held)
            except BaseException:
                if held.users == {user}:  # else it was on before, whole
                    _take_off(held)
                raise

    def give(self, point: Point, user: _Plan) -> None:
        """Take the hook of a point off, unless others use it. It may be done again."""
        with self._lock:
            held = self._held.get(point.key)
            if held is not None:
                held.users.discard(user)
                if not held.users:
                    _take_off(held)
                    self._held.pop(point.key, None)


class _Use:
    """One context's use of hooks. It ends with its frame at the latest: an interrupt may come in the midst of `end`."""

    def __init__(self, hooks: Hooks, entries: Sequence[tuple[Point, Any]]) -> None:
        outer = _current()
        fns = dict(outer.fns)
        for point, fn in entries:
            fns[point.key] = (*fns.get(point.key, ()), fn)
        self._hooks, self._points, self._is_ended = hooks, [point for point, _ in entries], False
        self.plan = _Plan(fns, outer)

    def begin(self) -> None:
        for point in self._points:
            self._hooks.take(point, self.plan)

    def end(self) -> None:
        self.plan.is_over = True
        for point in self._points:
            self._hooks.give(point, self.plan)
        self._is_ended = True

    def __del__(self) -> None:
        if not self._is_ended:
            self.end()


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


def _hook(point: Point) -> Callable[..., Any]:
    key = point.key

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        fns = _current().fns.get(key)
        if not fns:
            return None
        if args:
            return (_by_token(fns, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _by_token(fns, kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        fns = _current().fns.get(key)
        if not fns:
            return None
        if isinstance(output, tuple):
            return (_by_token(fns, output[0]), *output[1:])
        return _by_token(fns, output)

    def beside(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        fns = _current().fns.get(key)
        if not fns:
            return None
        for fn in fns:
            output = fn(module, args[0], output)
        return output

    def routed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        fns = _current().fns.get(key)
        if not fns:
            return None
        tokens, index, weight = (*args, *kwargs.values())
        run: Any = module.forward  # past the hooks, which this is one of
        return with_expert(output, run, point.expert, (tokens, index, weight), lambda own: _by_token(fns, own))

    def called(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for fn in _current().fns.get(key, ()):
            fn(args, kwargs)

    return {"call": called, "expert": routed, "in": before, "out": after, "weight": beside}[point.side]


def _put_on(held: _Held) -> None:
    point = held.point
    if held.fn in _hooks_of(point).values():
        return
    if point.side in ("call", "in"):
        point.module.register_forward_pre_hook(held.fn, with_kwargs=True)
    else:
        point.module.register_forward_hook(held.fn, with_kwargs=point.side == "expert")


def _take_off(held: _Held) -> None:
    """By the function and not by a handle, which an interrupt may have kept from being noted."""
    found = _hooks_of(held.point)
    for number in [number for number, fn in found.items() if fn is held.fn]:
        module: Any = held.point.module
        for more in (module._forward_hooks_with_kwargs, module._forward_pre_hooks_with_kwargs):
            more.pop(number, None)
        found.pop(number, None)


def _hooks_of(point: Point) -> dict[int, Any]:
    module: Any = point.module
    return module._forward_pre_hooks if point.side in ("call", "in") else module._forward_hooks


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
