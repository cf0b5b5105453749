"""What can be known of a model's folder before anything is read of its weights: are its descriptions whole, and are all of its files there?

transformers passes over some damage in silence (a generation config that is no JSON) and meets other in the middle of a load.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

from workbench.errors import CorruptModel

_AGAIN = "Save or download the model again."
_INDEX = "model.safetensors.index.json"
_DESCRIPTIONS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", _INDEX)
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens")
_POSITIVE = ("temperature", "top_p", "repetition_penalty")
# The deepest language models have some hundred layers; building a million takes all memory before any weight is missed.
_MOST_LAYERS = 2000
_POINTER = b"version https://git-lfs"


def described(path: Path) -> dict[str, Any]:
    """One of a folder's descriptions.

    Raises:
        CorruptModel: the file cannot be read, or is no JSON object.
    """
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptModel(f"{path} cannot be read as JSON: {error}", _AGAIN) from error
    if not isinstance(found, dict):
        raise CorruptModel(f"{path} holds {str(found):.40}; needed is a JSON object.", _AGAIN)
    return cast(dict[str, Any], found)


def check_folder(folder: Path) -> None:
    """Refuse a local folder whose descriptions are damaged, or that lacks a file that they name.

    Raises:
        CorruptModel: the message names the file, and what is wrong in it.
    """
    told = {name: described(folder / name) for name in _DESCRIPTIONS if (folder / name).is_file()}
    for template in folder.glob("*.jinja"):
        try:
            template.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CorruptModel(f"{template} cannot be read as text: {error}", _AGAIN) from error
    layers = told.get("config.json", {}).get("num_hidden_layers")
    if isinstance(layers, int) and layers > _MOST_LAYERS:
        raise CorruptModel(f"{folder / 'config.json'} has {layers:,} as num_hidden_layers; no model has above {_MOST_LAYERS:,}.", _AGAIN)
    for file in folder.glob("*.safetensors"):
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(_POINTER):
            raise CorruptModel(
                f"{file} is a pointer of Git LFS, not the weights themselves.", "Run there: git lfs pull; or download it again."
            )
    template = told.get("tokenizer_config.json", {}).get("chat_template")
    if template is not None and not isinstance(template, str | list | dict):
        raise CorruptModel(f"{folder / 'tokenizer_config.json'} has {str(template):.40} as chat_template; needed is a text.", _AGAIN)
    if "generation_config.json" in told:
        _check_generation(folder / "generation_config.json", told["generation_config.json"])
    if _INDEX in told:
        _check_shards(folder / _INDEX, told[_INDEX])


def _check_generation(path: Path, told: dict[str, Any]) -> None:
    for name in _IDS:
        value = told.get(name)
        ids = cast(list[object], value if isinstance(value, list) else [] if value is None else [value])
        wrong = [item for item in ids if not isinstance(item, int) or isinstance(item, bool) or item < 0]
        # -1 is how some folders write that there is none.
        if wrong and value != -1:
            raise CorruptModel(f"{path} has {str(value):.40} as {name}; needed are token ids.", _AGAIN)
    for name in _POSITIVE:
        value = told.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (is_number and (value > 0 or name == "temperature" and value == 0)):
            raise CorruptModel(f"{path} has {str(value):.40} as {name}; needed is a number above 0.", _AGAIN)
    top_k, top_p, samples = (told.get(name) for name in ("top_k", "top_p", "do_sample"))
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < -1):
        raise CorruptModel(f"{path} has {str(top_k):.40} as top_k; needed is a number of tokens.", _AGAIN)
    if top_p is not None and top_p > 1:
        raise CorruptModel(f"{path} has {top_p} as top_p; needed is a share, up to 1.", _AGAIN)
    if samples is not None and not isinstance(samples, bool):
        raise CorruptModel(f"{path} has {str(samples):.40} as do_sample; needed is true or false.", _AGAIN)


def _check_shards(path: Path, told: dict[str, Any]) -> None:
    found: object = told.get("weight_map")
    shards: set[object] = set(cast(dict[str, object], found).values()) if isinstance(found, dict) else set()
    if not shards or not all(isinstance(name, str) for name in shards):
        raise CorruptModel(f"{path} does not say in which file each tensor is (weight_map).", _AGAIN)
    lacking = sorted(str(name) for name in shards if not (path.parent / str(name)).is_file())
    if lacking:
        raise CorruptModel(f"{path.parent} lacks {len(lacking)} of {len(shards)} files of weights (first: {lacking[0]}).", _AGAIN)
