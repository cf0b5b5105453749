"""Tensors read from safetensors files, each in memory of its own.

A tensor that is mapped from a file begins wherever the file puts it. Kernels take other paths for memory that is not aligned and sum in
another order, so the same numbers would give results that differ by rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from workbench.shapes import Tensor

ALIGNMENT = 64  # bytes: what torch's own allocator gives on a CPU


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return a file's tensors, aligned.

    Raises: as `safetensors.torch.load_file`.
    """
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


@torch.no_grad()
def align(network: nn.Module) -> None:
    """Give each parameter and buffer of a network that is mapped from a file memory of its own where it is not aligned."""
    named: list[Any] = [*network.parameters(), *network.buffers()]
    for tensor in named:
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
