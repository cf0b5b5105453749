"""Where a model's numbers lie, and in how many bits: devices by name, and weights quantised while they are loaded."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from workbench.errors import ModelUnavailable

SPREAD = "auto"
"""The device that stands for all GPUs of the machine, the layers shared out among them."""
# Bits a weight, with the scales of its block.
QUANTISED: dict[str, float] = {"int8": 8.5, "nf4": 4.5}


def checked_device(device: str) -> str:
    """Return the name of a device that is there.

    Raises:
        ModelUnavailable: there is no such kind of device, or this machine has none, or not so many.
    """
    hint = "Choose cpu, cuda (or cuda:1 …), mps, or auto for all GPUs of the machine."
    try:
        kind = "cuda" if device == SPREAD else torch.device(device).type
    except RuntimeError as error:
        raise ModelUnavailable(f"There is no device {device!r}.", hint) from error
    if kind not in ("cpu", "cuda", "mps"):
        raise ModelUnavailable(f"Retouch does not run on {device!r}.", hint)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailable("This machine has no Apple GPU (mps), or torch was built without it.", "Choose cpu.")
    if kind != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ModelUnavailable(f"{device!r} needs a CUDA GPU; torch finds none here.", "Choose cpu, or install torch with CUDA.")
    index, n = torch.device("cuda" if device == SPREAD else device).index or 0, torch.cuda.device_count()
    if index >= n:
        raise ModelUnavailable(f"There is no {device}: this machine has {n} GPU{'s' if n > 1 else ''}.", f"Choose cuda:0 to cuda:{n - 1}.")
    return device


def devices_here() -> tuple[str, ...]:
    """The devices of this machine that a model can be put on, the processor first."""
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ["cuda"] if n == 1 else [*(f"cuda:{i}" for i in range(n)), *([SPREAD] if n else [])]
    return "cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])


def quantised_here() -> tuple[str, ...]:
    """The number types of few bits in which this installation can load a model."""
    return tuple(QUANTISED) if importlib.util.find_spec("bitsandbytes") is not None else ()


def free_bytes(device: str) -> int:
    """Memory that is free on a CUDA device now, or on all of them together (`auto`)."""
    found = range(torch.cuda.device_count()) if device == SPREAD else [torch.device(device)]
    return sum(int(torch.cuda.mem_get_info(one)[0]) for one in found)


def loading_options(dtype: str, device: str) -> dict[str, Any]:
    """What transformers has to be told beside the number type to load onto a device, quantised or shared out.

    Raises:
        ModelUnavailable: bitsandbytes, which quantises, is not installed.
    """
    if dtype not in QUANTISED:
        return {"device_map": "auto"} if device == SPREAD else {}
    if not quantised_here():
        raise ModelUnavailable(
            f"Loading in {dtype} needs the package bitsandbytes, which is not installed.",
            "Run: pip install 'retouch[quantised]' (from a clone: pip install '.[quantised]'); or choose bfloat16.",
        )
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast
    # A threshold would let one row's outliers decide how another row beside it is multiplied.
    known: dict[str, dict[str, Any]] = {
        "int8": {"load_in_8bit": True, "llm_int8_threshold": 0.0},
        "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    }
    compute: dict[str, Any] = {} if dtype == "int8" else {"bnb_4bit_compute_dtype": torch.float32}
    return {"quantization_config": BitsAndBytesConfig(**known[dtype], **compute), "device_map": device}


def quantised_as(network: Any) -> str:
    """In what a network's weights are quantised; empty if they are numbers of their own."""
    config: Any = getattr(network.config, "quantization_config", None)
    if config is None:
        return ""
    told = config if isinstance(config, dict) else config.to_dict()
    if told.get("quant_method") in ("bitsandbytes", None):
        return "int8" if told.get("load_in_8bit") else "nf4"
    return str(told["quant_method"])  # pyright: ignore[reportUnknownArgumentType]
