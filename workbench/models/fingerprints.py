"""Which model this is: a hash of all its weights, computed once for a file and noted, and the hash by which older edits know it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import nn

from workbench.errors import CorruptModel
from workbench.models.base import Fingerprint
from workbench.models.folder_check import described
from workbench.shapes import Tensor
from workbench.whole import whole_file

# Below this many bytes hashing takes no longer than looking it up.
_NOTED_FROM = 2**26
_MOST_NOTED = 200
HOLDS = "retouch.json"
"""The file of an exported model that says which edits it holds."""
_SUFFIXES = (".safetensors", ".bin", ".gguf")


def fingerprint_of(
    network: nn.Module, name: str, revision: str, processing: str = "raw", *, files: Sequence[Path] = (), noted: Path | None = None
) -> Fingerprint:
    """The fingerprint of a network as it is now: its parameters by name, shape and bytes.

    Args:
        files: where the weights were read from, untouched since.
        noted: a file that keeps hashes of large weights by these files, their sizes and times; None computes always.
    """
    parameters = dict(sorted(network.named_parameters()))
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    sampled, n_bytes = _sampled(parameters), sum(parameter.nbytes for parameter in parameters.values())
    key = _key(files, parameters, sampled) if noted is not None and files and n_bytes >= _NOTED_FROM else ""
    known = _known(noted) if key and noted is not None else {}
    weights = known.get(key) or _whole(parameters)
    if key and noted is not None and key not in known:
        kept = dict([*known.items(), (key, weights)][-_MOST_NOTED:])
        # Notes only save time: where they cannot be written, the next load takes as long as this one.
        with contextlib.suppress(OSError):
            whole_file(noted, (json.dumps(kept, indent=1) + "\n").encode())
    return Fingerprint(name, revision, dtype, processing, weights, sampled)


def weight_files(source: str, name: str, revision: str = "") -> tuple[Path, ...]:
    """The files that a model's weights are read from: a file, those of a folder, or those of the hub's cache; none where none are known."""
    if Path(name).is_file():
        return (Path(name),)
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(source, "config.json", revision=revision or None)
        folder = Path(config).parent if isinstance(config, str) else folder
    return tuple(sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES)) if folder.is_dir() else ()


def held(folder: Path) -> frozenset[str]:
    """The ids of the edits that a folder says it was exported with.

    Raises:
        CorruptModel: its note is damaged.
    """
    path = folder / HOLDS
    told: object = described(path).get("edits") if path.is_file() else []
    if not isinstance(told, list) or not all(isinstance(item, str) for item in cast(list[object], told)):
        raise CorruptModel(f"{path} has {str(told):.40} as edits; needed is a list of ids.", "Export the model again.")
    return frozenset(cast(list[str], told))


def _key(files: Sequence[Path], parameters: dict[str, nn.Parameter], sampled: str) -> str:
    """What changes whenever the files do, or whatever reads them: a change of content comes with a change of times."""
    # Samples are in double precision: they do not tell a number type from one that widens it without loss.
    dtypes = [str(parameter.dtype) for parameter in parameters.values()]
    stats = [(path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for path in files for stat in [path.stat()]]
    return hashlib.sha256(json.dumps([stats, dtypes, sampled, torch.__version__, transformers.__version__]).encode()).hexdigest()


def _known(noted: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(noted.read_text())
    except (OSError, ValueError, RecursionError):  # notes that are lost or damaged are made anew
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _whole(parameters: dict[str, nn.Parameter]) -> str:
    """Hash of every byte. Each parameter is hashed by itself, two at a time; hashing lets other threads run."""
    with ThreadPoolExecutor(2) as pool:
        each = pool.map(lambda item: f"{item[0]} {tuple(item[1].shape)} {item[1].dtype} {_bytes(item[1])}", parameters.items())
    return hashlib.sha256("\n".join(each).encode()).hexdigest()[:32]


def _bytes(parameter: Tensor) -> str:
    flat = parameter.detach().cpu().contiguous().reshape(-1)
    held: Any = flat.view(torch.uint8).numpy() if flat.numel() else b""  # hashed where it lies
    return hashlib.sha256(held).hexdigest()


def _sampled(parameters: dict[str, nn.Parameter]) -> str:
    """Hash of 64 evenly spaced values of every parameter, in their own precision: what edits of older versions hold."""
    digest = hashlib.sha256()
    for key, parameter in parameters.items():
        flat = parameter.detach().reshape(-1)
        # Single precision rounds the last of many millions of places up, to one behind the end.
        places = torch.linspace(0, flat.numel() - 1, 64).long().clamp_max(flat.numel() - 1)
        picked = flat[places.to(flat.device)]
        digest.update(key.encode() + str(tuple(parameter.shape)).encode())
        digest.update(picked.cpu().double().numpy().tobytes())
    return digest.hexdigest()[:32]
