"""A Backpack on disk: the Hugging Face folder, its config, and the state dict by name.

A folder holds `config.json` and the weights, as `model.safetensors` (read first, and the only form written) or as
the pickled `pytorch_model.bin` of the released checkpoint, which is only ever unpickled with `weights_only=True`. No
remote code is run.

Ref: docs/methods/senses.md §2.8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import CorruptModel, ModelUnavailable
from workbench.models.tensor_files import read_tensors

ARCHITECTURE = "BackpackGPT2LMHeadModel"
WTE = "backpack.gpt2_model.wte.weight"
WPE = "backpack.gpt2_model.wpe.weight"
ALIASES: Mapping[str, str] = {
    "backpack.word_embeddings.weight": WTE,
    "lm_head.weight": WTE,
    "backpack.position_embeddings.weight": WPE,
}
# Causal-mask buffers of GPT-2 attention: derived from n_positions, stored by old versions of transformers.
MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")
HALF = (torch.float16, torch.bfloat16)
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"


@dataclass(frozen=True)
class BackpackConfig:
    """The numbers that fix a Backpack's shape, under the names of its Hugging Face config.

    Ref: docs/methods/senses.md §2.8. Defaults are those of the released 170 M model.
    """

    vocab_size: int = 50264
    num_senses: int = 16
    sense_intermediate_scale: int = 4
    n_positions: int = 512
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_by_inverse_layer_idx: bool = True

    @property
    def d_mlp(self) -> int:
        """Width of the body's MLPs."""
        return self.n_inner if self.n_inner is not None else 4 * self.n_embd

    @property
    def d_head(self) -> int:
        """Width of one attention head of the body."""
        return self.n_embd // self.n_head

    @property
    def d_weight_head(self) -> int:
        """Width of one head of the sense weight net."""
        return self.n_embd // self.num_senses

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Self:
        """Read the keys of a Hugging Face config; keys that say nothing about the network are passed over.

        Raises:
            CorruptModel: the config is not a Backpack's, or asks for a network that this module does not compute.
        """
        if not is_backpack(config):
            raise CorruptModel(
                f"The config names neither num_senses nor the architecture {ARCHITECTURE}, so this is no Backpack.",
                "Load the folder as an ordinary transformer, or point to a Backpack's folder.",
            )
        made = cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})
        made.check()
        if config.get("tie_word_embeddings", True) is False:
            raise CorruptModel(
                "The config unties the word embeddings; a Backpack reads and writes one matrix.",
                "Set tie_word_embeddings to true, if the weights really are tied.",
            )
        return made

    def check(self) -> None:
        """Refuse shapes that do not make a network."""
        if self.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
            raise CorruptModel(
                f"activation_function is {self.activation_function!r}; a Backpack uses 'gelu_new'.",
                "Correct config.json, or use the weights that belong to it.",
            )
        for name in (
            "vocab_size",
            "num_senses",
            "sense_intermediate_scale",
            "n_positions",
            "n_embd",
            "n_layer",
            "n_head",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CorruptModel(f"{name} is {value!r}; it has to be a whole number above 0.", "Correct config.json.")
        if self.n_embd % self.n_head:
            raise CorruptModel(f"n_embd {self.n_embd} is no multiple of n_head {self.n_head}.", "Correct config.json.")
        if self.num_senses > self.n_embd:
            raise CorruptModel(
                f"num_senses {self.num_senses} exceeds n_embd {self.n_embd}, which leaves no width per sense.",
                "Use at most n_embd senses.",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the Hugging Face config, with the architecture name that marks a Backpack."""
        own: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"architectures": [ARCHITECTURE], "model_type": "gpt2", "tie_word_embeddings": True, **own}


def is_backpack(config: Mapping[str, Any]) -> bool:
    """Say whether a config is a Backpack's; its `model_type` is GPT-2's, so that key tells nothing."""
    return "num_senses" in config or ARCHITECTURE in (config.get("architectures") or [])


def read_config(folder: Path) -> BackpackConfig:
    """Read `config.json` of a Backpack folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelUnavailable(f"{folder} has no config.json.", "Point to the folder that holds the model's files.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptModel(f"{path} is not JSON: {error}.", "Fetch the model's files again.") from error
    if not isinstance(config, dict):
        raise CorruptModel(f"{path} holds a {type(config).__name__}, not an object.", "Fetch the model's files again.")
    return BackpackConfig.from_json(cast("dict[str, Any]", config))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a folder's state dict as it is stored, safetensors first.

    Raises:
        ModelUnavailable: there is no weights file.
        CorruptModel: the file cannot be read, or would need code to be run.
    """
    if (folder / SAFETENSORS).is_file():
        try:
            return read_tensors(folder / SAFETENSORS)
        except (SafetensorError, OSError) as error:
            raise CorruptModel(f"{folder / SAFETENSORS} cannot be read: {error}.", "Fetch the model's files again.") from error
    path = folder / PICKLE
    if not path.is_file():
        raise ModelUnavailable(f"{folder} has neither {SAFETENSORS} nor {PICKLE}.", "Point to the folder that holds the model's weights.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CorruptModel(
            f"{path} is damaged or holds more than tensors: {str(error).splitlines()[0]}",
            "Fetch the model's files again, or convert them to safetensors where you trust them.",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CorruptModel(f"{path} is not a dictionary of tensors.", "Save the model's state_dict() alone.")
    return cast("dict[str, Tensor]", state)


def canonical_state(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Bring a state dict to the network's own names, and refuse what does not fit.

    Aliases of the tied matrices become the body's names; two aliases that differ are an error; causal-mask buffers
    are dropped.

    Args:
        state: tensors as stored.
        expected: the network's names and shapes.

    Raises:
        CorruptModel: a missing, unexpected, misshapen or conflicting tensor, by name.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.endswith(MASK_BUFFERS) and name not in expected:
            continue
        own = ALIASES.get(name, name)
        if own in found and not torch.equal(found[own][1], tensor):
            raise CorruptModel(
                f"{found[own][0]} and {name} are one matrix in a Backpack, yet their values differ.",
                "Delete the wrong one of the two from the file, or fetch the weights again.",
            )
        found.setdefault(own, (name, tensor))
    _compare_names(found.keys(), expected.keys())
    for name, (stored, tensor) in found.items():
        if tensor.shape != expected[name]:
            raise CorruptModel(
                f"{stored} has shape {tuple(tensor.shape)}; the config asks for {tuple(expected[name])}.",
                "Use the config.json that belongs to these weights.",
            )
    # Half precision is a way to store weights, not to run them on a CPU.
    return {name: tensor.float() if tensor.dtype in HALF else tensor for name, (_, tensor) in found.items()}


def _compare_names(found: Any, expected: Any) -> None:
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [
        f"{kind} {len(names)}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if parts:
        raise CorruptModel(
            f"The weights are not this Backpack's ({'; '.join(parts)}).",
            "Check that config.json and the weights belong together and that the file is complete.",
        )


def write_folder(folder: Path, config: BackpackConfig, state: Mapping[str, Tensor]) -> None:
    """Write `config.json` and `model.safetensors`, each atomically, tied matrices under the body's names only."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    partial = folder / f".{SAFETENSORS}.part"
    save_file(weights, partial, metadata={"format": "pt"})
    os.replace(partial, folder / SAFETENSORS)
    partial = folder / ".config.json.part"
    partial.write_text(json.dumps(config.to_json(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")
