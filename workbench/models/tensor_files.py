"""Tensors read from safetensors files, each in memory of its own.

A tensor that is mapped from a file begins wherever the file puts it. Kernels take other paths for memory that is not aligned and sum in
another order, so the same numbers would give results that differ by rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from workbench.shapes import Tensor
from workbench.whole import whole_file

_FACTS = "facts"
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


@torch.no_grad()
def align(network: nn.Module) -> None:
    """Give each parameter and buffer of a network that is mapped from a file memory of its own where it is not aligned."""
    named: list[Any] = [*network.parameters(), *network.buffers()]
    for tensor in named:
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
