"""What the modules of a network are called with and return in one forward, kept for comparison."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from workbench.models.hooks import Point
from workbench.models.layout import Layout
from workbench.shapes import Tensor
from workbench.sites import Site


class Shown:
    """What modules were called with and returned, by point, in the order of the calls; `maps` are those called with one tensor for one."""

    def __init__(self) -> None:
        self.maps: set[int] = set()
        self._values: dict[tuple[int, str], list[Any]] = {}

    def add(self, key: tuple[int, str], value: Any) -> None:
        """Note one more value."""
        # Some networks go on writing into a tensor that a module has returned; layers may lie on several devices.
        self._values.setdefault(key, []).append(value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value)

    def at(self, point: Point, shape: tuple[int, ...]) -> Tensor | None:
        """The last value if it is one vector a token, as (batch, pos, width)."""
        found = self._values.get(point.key, [None])[-1]
        if not isinstance(found, Tensor) or not found.is_floating_point():
            return None
        if found.ndim == 2 and found.shape[0] == shape[0] * shape[1]:
            return found.view(*shape, -1)
        return found if found.ndim == 3 and tuple(found.shape[:2]) == shape else None

    def width(self, point: Point) -> int:
        """Width of the last value."""
        return int(self._values[point.key][-1].shape[-1])

    def count(self, point: Point) -> int:
        """How often the module was called."""
        return len(self._values.get(point.key, []))

    def entangled(self, network: nn.Module) -> frozenset[str]:
        """Parameters whose modules were not called with one tensor for one."""
        return frozenset(
            f"{path}.{name}".lstrip(".")
            for path, module in network.named_modules()
            for name, parameter in module.named_parameters(recurse=False)
            if id(module) not in self.maps or not parameter.is_floating_point()
        )

    def rows_stay_apart(self, module: nn.Module, n_rows: int) -> bool:
        """Whether every tensor of a module's call has a row a sequence, or one for all: Bloom's position biases have one a head."""
        return _rows_stay_apart(self._values.get((id(module), "call"), [()])[-1], n_rows)

    def routes(self, module: nn.Module) -> bool:
        """Whether it was called with tokens, the indices of their experts, and the weights of these."""
        calls = self._values.get((id(module), "call"), [])
        if len(calls) != 1 or len(calls[0]) != 3 or not all(isinstance(value, Tensor) for value in calls[0]):
            return False
        tokens, index, weight = calls[0]
        return tokens.ndim == index.ndim == weight.ndim == 2 and not index.is_floating_point() and index.shape == weight.shape


@contextmanager
def recorded(layout: Layout, asked: Mapping[Site, tuple[Point, ...]], experts: Mapping[int, nn.Module]) -> Generator[Shown]:
    """Within this context, note what passes at these points, and how blocks and experts are called; yields the notes."""
    shown, handles = Shown(), list[Any]()
    points = [point for found in asked.values() for point in found]

    def before(key: tuple[int, str]) -> Any:
        return lambda _, args, kwargs: shown.add(key, args[0] if args else kwargs.get("hidden_states"))

    def after(key: tuple[int, str]) -> Any:
        return lambda _, __, output: shown.add(key, output[0] if isinstance(output, tuple) else output)

    def mapped(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            shown.maps.add(id(module))

    try:
        for module in layout.network.modules():
            if next(module.parameters(recurse=False), None) is not None:
                handles.append(module.register_forward_hook(mapped, with_kwargs=True))
        for point in {point.key: point for point in points}.values():
            if point.side == "in":
                handles.append(point.module.register_forward_pre_hook(before(point.key), with_kwargs=True))
            else:
                handles.append(point.module.register_forward_hook(after(point.key)))
        for module in (*experts.values(), *layout.blocks):
            key = (id(module), "call")
            record: Any = lambda _, args, kwargs, key=key: shown.add(key, (*args, *kwargs.values()))  # noqa: E731
            handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
        yield shown
    finally:
        for handle in handles:
            handle.remove()


def _rows_stay_apart(call: Any, n_rows: int) -> bool:
    """Whether every tensor of a block's call has a row a sequence, or one for all: Bloom's position biases have one a head."""
    if isinstance(call, Tensor):
        return call.ndim < 2 or call.shape[0] in (1, n_rows)
    if isinstance(call, dict):
        return all(_rows_stay_apart(item, n_rows) for item in call.values())  # pyright: ignore[reportUnknownVariableType]
    return not isinstance(call, (tuple, list)) or all(_rows_stay_apart(item, n_rows) for item in call)  # pyright: ignore[reportUnknownVariableType]
