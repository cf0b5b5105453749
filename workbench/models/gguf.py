"""GGUF files: a model in one file, usually with its weights rounded to a few bits, read as an ordinary network.

Dequantising writes the rounded numbers out in full precision. Nothing that rounding lost comes back: the network is the compressed model,
so its logits differ a little from those of the original checkpoint, and edits are fitted to what is in the file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import modeling_gguf_pytorch_utils as reading

from workbench.errors import CorruptModel, ModelUnavailable
from workbench.models.building import BUILDING
from workbench.progress import Progress, silent

_MAGIC = b"GGUF"
ABOUT = "about.json"
"""Beside a converted model: where it came from, under which licence, and what was done to its weights."""


@dataclass(frozen=True)
class GgufFacts:
    """What a file says of itself before any weight is read. `types` counts its tensors by how their numbers are stored."""

    architecture: str
    name: str
    licence: str
    n_parameters: int
    types: dict[str, int]

    @property
    def is_quantised(self) -> bool:
        """Whether any matrix is stored in fewer bits than half precision."""
        return any(name not in ("F32", "F16", "BF16", "F64") for name in self.types)

    @property
    def says(self) -> str:
        """One sentence on what reading the file does to its numbers."""
        if not self.is_quantised:
            return "Its weights are stored unrounded."
        kinds = ", ".join(sorted(name for name in self.types if name not in ("F32", "F16", "BF16", "F64")))
        return f"Its weights were rounded to few bits ({kinds}) and are written out in full: what rounding lost does not come back."


def is_gguf(path: str | Path) -> bool:
    """Whether a path names a GGUF file, by its name or its first bytes."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return file.suffix.lower() == ".gguf" or opened.read(4) == _MAGIC


def gguf_facts(path: str | Path) -> GgufFacts:
    """Read a file's header.

    Raises:
        CorruptModel: it is no GGUF file, or it is cut short. ModelUnavailable: the package gguf is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelUnavailable(f"There is no file {file}.", "Check the path.")
    return _facts(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _facts(file: Path, _changed: int) -> GgufFacts:
    _needed()
    from gguf import GGUFReader  # pyright: ignore[reportMissingTypeStubs]

    with file.open("rb") as opened:
        if opened.read(4) != _MAGIC:
            raise CorruptModel(f"{file} does not begin as a GGUF file.", "Give a .gguf file, or a folder that save_pretrained wrote.")
    try:
        reader: Any = GGUFReader(str(file))
    except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError, MemoryError, OverflowError, TypeError) as error:
        raise CorruptModel(f"The header of {file} cannot be read: {_first(error)}", "Download the file again.") from error
    types: dict[str, int] = {}
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
        if tensor.data_offset + tensor.n_bytes > file.stat().st_size:
            raise CorruptModel(f"{file} ends before its tensor {tensor.name!r} does.", "Download the file again.")
    if not types:
        raise CorruptModel(f"{file} holds no weights.", "Give the file that holds the model, not its vocabulary alone.")
    known = {key: _text(reader, f"general.{key}") for key in ("architecture", "name", "license")}
    return GgufFacts(known["architecture"], known["name"], known["license"], sum(int(t.n_elements) for t in reader.tensors), types)


def config_of(path: str | Path) -> Any:
    """The Hugging Face config that a file describes, without what tells transformers to leave it quantised.

    Raises:
        CorruptModel, ModelUnavailable: as `gguf_facts`; ModelUnavailable also for a family that transformers does not read from GGUF.
    """
    found = gguf_facts(path)
    try:
        config = AutoConfig.from_pretrained(Path(path).parent, gguf_file=Path(path).name)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelUnavailable(
            f"transformers does not read the family {found.architecture!r} from a GGUF file: {_first(error)}",
            "Give the model's Hugging Face folder instead.",
        ) from error
    return _plain(config)


def read_gguf(path: str | Path, *, dtype: torch.dtype = torch.float32, progress: Progress | None = None) -> tuple[Any, Any]:
    """Read a file as a network and its tokenizer; the weights are dequantised.

    Raises:
        CorruptModel, ModelUnavailable: as `config_of`.
    """
    tell, file = progress or silent(), Path(path)
    config = config_of(file)
    tell(0.1, f"Writing out the weights of {file.name}")
    try:
        with BUILDING, _quiet(tell):
            both: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, config=config, dtype=dtype, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError, RuntimeError, OSError) as error:
        raise CorruptModel(f"The weights of {file} cannot be read: {_first(error)}", "Download the file again.") from error
    loaded, told = both
    missing = sorted(set(told["missing_keys"]) - set(getattr(loaded, "all_tied_weights_keys", None) or ()))
    if missing:
        raise CorruptModel(f"{file} lacks {len(missing)} tensors of its family (first: {missing[0]}).", "Download the file again.")
    # A network that came from a quantised file refuses to be saved; the same state in a network of the plain config does not.
    with torch.device("meta"):
        network: Any = type(loaded)(config)
    network.load_state_dict(loaded.state_dict(), assign=True)
    for name, buffer in loaded.named_buffers():  # those that are computed from the config and saved nowhere
        owner, _, short = name.rpartition(".")
        network.get_submodule(owner)._buffers[short] = buffer
    network.tie_weights()
    network.generation_config = loaded.generation_config
    return network, tokenizer


def converted(path: str | Path, folder: Path, about: dict[str, Any], *, progress: Progress | None = None) -> Path:
    """Write a file as a Hugging Face folder, whole or not at all, with `about` beside it; return the folder.

    Raises:
        As `read_gguf`; OSError where the folder cannot be written.
    """
    tell = progress or silent()
    network, tokenizer = read_gguf(path, progress=tell.part(0.0, 0.7))
    tell(0.7, "Writing the folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        network.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        tell(0.99, "Writing the folder")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.chmod(0o755)  # a temporary folder is for its owner alone
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _plain(config: Any) -> Any:
    values = config.to_dict()
    values.pop("quantization_config", None)
    return type(config).from_dict(values)


def _needed() -> None:
    if find_spec("gguf") is None:
        raise ModelUnavailable("Reading a GGUF file needs the package gguf.", "Install it with: pip install gguf")


def _text(reader: Any, key: str) -> str:
    field = reader.fields.get(key)
    return "" if field is None else str(field.contents())


def _first(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


_BAR = "tqdm"  # transformers imports the name; it does not export it


class _quiet:  # noqa: N801 - used as a context, like contextlib's
    """transformers draws a bar for dequantising that no setting of its own turns off: tell our progress instead."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._old = getattr(reading, _BAR)
        tell = self._tell

        def counted(items: Any, **_: Any) -> Any:
            listed = list(items)
            for i, item in enumerate(listed):
                tell(0.1 + 0.8 * i / len(listed), "Writing out the weights")
                yield item

        setattr(reading, _BAR, counted)

    def __exit__(self, *_: object) -> None:
        setattr(reading, _BAR, self._old)
