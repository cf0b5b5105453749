"""Tensors read from safetensors files, each in memory of its own.

A tensor that is mapped from a file begins wherever the file puts it. Kernels take other paths for memory that is not aligned and sum in
another order, so the same numbers would give results that differ by rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from workbench.shapes import Tensor
from workbench.whole import whole_file

_FACTS = "facts"
_KINDS = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
ALIGNMENT = 64  # bytes: what torch's own allocator gives on a CPU


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return a file's tensors, aligned.

    Raises: as `safetensors.torch.load_file`.
    """
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def write_noted(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors with facts about them as JSON, whole or not at all. Raises: OSError: the disk refuses."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    whole_file(path, save(held, {_FACTS: json.dumps(facts, sort_keys=True)}))


def noted_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file's tensors, and the facts that `write_noted` put beside them.

    Raises:
        ValueError: it is no such file. OSError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "null"))
        tensors = read_tensors(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if not isinstance(facts, dict):
        raise ValueError("it has no facts")
    return tensors, facts


@contextmanager
def rows_written(
    path: Path, name: str, shape: Sequence[int], dtype: torch.dtype, beside: Mapping[str, Tensor], notes: Mapping[str, str]
) -> Generator[Callable[[Tensor], None]]:
    """A tensor that is written to a safetensors file piece by piece, in the order of its numbers, and never held whole.

    Args:
        shape, dtype: of the tensor `name` when all of it has been given. beside: whole tensors of the same file. notes: its metadata.

    Raises:
        ValueError: fewer or more numbers were given than `shape` holds. OSError: the disk refuses.
    """
    held = {key: tensor.detach().cpu().contiguous() for key, tensor in beside.items()}
    size, end = torch.Size(shape).numel(), 0
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    told = [*((key, tensor.dtype, tensor.shape) for key, tensor in held.items()), (name, dtype, torch.Size(shape))]
    for key, kind, sizes in told:
        start, end = end, end + sizes.numel() * kind.itemsize
        header[key] = {"dtype": _KINDS[kind], "shape": list(sizes), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes, as safetensors writes them
    given = 0
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in held.values():
            file.write(tensor.numpy().tobytes())

        def write(part: Tensor) -> None:
            nonlocal given
            given += part.numel()
            file.write(part.detach().to("cpu", dtype).contiguous().numpy().tobytes())

        yield write
    if given != size:
        raise ValueError(f"{name} was to have {size} numbers, and {given} were given")


@torch.no_grad()
def align(network: nn.Module) -> None:
    """Give each parameter and buffer of a network that is mapped from a file memory of its own where it is not aligned."""
    named: list[Any] = [*network.parameters(), *network.buffers()]
    for tensor in named:
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
