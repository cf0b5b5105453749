"""Where models come from: the two that ship with Retouch, a local Hugging Face folder, or a hub id."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from workbench.errors import CorruptModel, ModelUnavailable, NotEnoughMemory
from workbench.models import gguf
from workbench.models.backpack.files import is_backpack
from workbench.models.base import LanguageModel
from workbench.models.building import BUILDING
from workbench.models.devices import QUANTISED, SPREAD, checked_device, free_bytes, loading_options
from workbench.models.fetching import HUB_ANSWERS_WITHIN, fetch, fetched, hub_has, recommended
from workbench.models.fingerprints import held
from workbench.models.folder_check import check_folder, described
from workbench.models.planted import planted
from workbench.models.tensor_files import align
from workbench.progress import Progress, silent
from workbench.resources import EMBEDDED, PLANTED, RECOMMENDED, models_of

DTypeName = Literal["float32", "float64", "bfloat16", "float16", "int8", "nf4"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    # Quantised weights are multiplied in single precision.
    "int8": torch.float32,
    "nf4": torch.float32,
}
HASHES = "weights.json"
"""The file of a workspace that keeps hashes of large weights, so that they are computed once."""
# transformers' own bars would mix with our progress, and with errors on stderr.
logging.disable_progress_bar()

# What transformers and the code below it raise on a folder that describes no model.
_FOREIGN = (ValueError, TypeError, AttributeError, AssertionError, ImportError)

# Below this many parameters a second thread costs more than it brings, and with another busy process 5 to 50 times more.
_ONE_THREAD_BELOW = 30_000_000
# Weights, plus activations, a cache and a loading buffer; measured peaks of GPT-2-shaped models lie between 1.1 and 1.3.
_OVERHEAD = 1.3


@dataclass(frozen=True)
class MemoryEstimate:
    """What a model needs against what is free, in bytes, before anything is loaded."""

    name: str
    architecture: str
    n_parameters: int
    bytes_needed: int
    bytes_free: int

    @property
    def fits(self) -> bool:
        """Whether it fits into what is free."""
        return self.bytes_needed <= self.bytes_free


def bytes_needed(n_parameters: int, dtype: str) -> int:
    """Memory that a model of so many parameters needs in a number type, in bytes. Raises: KeyError for an unknown type."""
    return int(n_parameters * QUANTISED.get(dtype, torch.finfo(DTYPES[dtype]).bits) / 8 * _OVERHEAD)


def bytes_free(device: str) -> int:
    """Memory that is free on a device now, in bytes."""
    if device == SPREAD or torch.device(device).type == "cuda":
        return free_bytes(device)
    return int(psutil.virtual_memory().available)


def fetch_recommended(name: str, models: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Fetch a recommended model into `models` (default: the workspace's) and return its folder. Errors: as `fetching.fetch`."""
    return fetch(name, recommended(RECOMMENDED), models_of() if models is None else models, progress=progress)


def note(name: str, models: Path | None = None) -> str:
    """What to know of a model's files before trusting its numbers: licence, origin, and what was done to its weights; empty if nothing.

    Raises:
        ModelUnavailable: no such model, folder or file.
    """
    source = located(name, models)
    if gguf.is_gguf(source):
        found = gguf.gguf_facts(source)
        return f"{found.says} Licence: {found.licence or 'not stated in the file'}."
    path = Path(source) / gguf.ABOUT
    if not path.is_file():
        return ""
    about = described(path)
    return f"From {about['from']}; licence {about['licence']}; weights: {about['weights']}."


def located(name: str, models: Path | None = None) -> str:
    """The folder, file or hub id that a model's name stands for; the planted model is made where it is not there yet.

    Raises:
        ModelUnavailable: no such model, folder or file. StorageFailed: as `planted`.
    """
    if name in EMBEDDED:
        if not (EMBEDDED[name] / "config.json").exists():
            raise ModelUnavailable(
                f"The model {name!r} is not in {EMBEDDED[name]}.", "Run: python -m workbench.world train, or restore assets/models."
            )
        return str(EMBEDDED[name])
    if name == PLANTED:
        return str(planted((models_of() if models is None else models) / name))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            inside = sorted(path.glob("*.gguf"))
            hint = f"Give the file itself: {inside[0]}." if inside else "Give a folder that save_pretrained wrote."
            raise ModelUnavailable(f"The folder {name} holds no config.json.", hint)
        return str(path)
    if gguf.is_gguf(path):
        return str(path)
    known = {item.name: item for item in recommended(RECOMMENDED)}
    folder = None if "/" in name or not name.strip(".") else fetched(name, models_of() if models is None else models)
    if folder is not None:
        return str(folder)
    if name in known:
        raise ModelUnavailable(
            f"The model {name!r} has not been fetched yet.", f"Run: retouch models get {name}; or press Get on the page Model."
        )
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or name.lower().endswith(".gguf"):
        raise ModelUnavailable(
            f"There is no folder or file {name}.", f"Check the path, or give a hub id or one of: {', '.join((*EMBEDDED, *known))}."
        )
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        hint = f"Give a folder, a file, a hub id such as org/name, or one of: {', '.join((*EMBEDDED, *known))}."
        raise ModelUnavailable(f"There is no model {name!r:.100}, and no hub id has such a name.", hint) from error
    return name


def estimate(
    name: str, *, dtype: DTypeName = "float32", device: str = "cpu", revision: str = "", models: Path | None = None
) -> MemoryEstimate:
    """Estimate the memory that a model needs, from its config alone.

    Raises:
        ModelUnavailable: there is no such model, or no network, or no access.
    """
    checked_device(device)
    source = located(name, models)
    return _sized(name, source, _reach(source), dtype, device, revision)


def _sized(name: str, source: str, local: bool, dtype: str, device: str, revision: str) -> MemoryEstimate:
    if Path(source).is_dir():
        check_folder(Path(source))
    if gguf.is_gguf(source):
        count, architecture = gguf.gguf_facts(source).n_parameters, gguf.gguf_facts(source).architecture
    elif is_backpack_folder(source):
        from workbench.models.backpack.model import parameter_count

        count, architecture = parameter_count(Path(source)), "BackpackGPT2LMHeadModel"
    else:

        def built() -> Any:
            config = AutoConfig.from_pretrained(source, revision=revision or None, local_files_only=local, trust_remote_code=False)
            with BUILDING, torch.device("meta"):
                return AutoModelForCausalLM.from_config(config, trust_remote_code=False)

        network: Any = _from_hub(name, built)
        count, architecture = sum(p.numel() for p in network.parameters()), type(network).__name__
    return MemoryEstimate(name, architecture, count, bytes_needed(count, dtype), bytes_free(device))


def load(
    name: str,
    *,
    dtype: DTypeName = "float32",
    device: str = "cpu",
    revision: str = "",
    models: Path | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """Load a model: `embedded`, `embedded-backpack`, one that was fetched into `models`, a Hugging Face folder, a GGUF file, or a hub id.

    Sets torch's thread count by the size of the model (process-wide), unless OMP_NUM_THREADS is set.

    Raises:
        ModelUnavailable: no such model, no network, gated, or an unsupported architecture.
        CorruptModel: the files cannot be read as a model.
        NotEnoughMemory: it needs more than is free; nothing has been loaded.
    """
    tell = progress or silent()
    if dtype not in DTYPES:
        raise ModelUnavailable(f"No dtype {dtype!r}.", f"Choose one of {', '.join(DTYPES)}.")
    checked_device(device)
    tell(0.05, f"Looking up {name}")
    source = located(name, models)
    local = _reach(source)
    size = _sized(name, source, local, dtype, device, revision)
    if not size.fits:
        raise NotEnoughMemory(
            f"{name} needs about {size.bytes_needed / 1e9:.1f} GB in {dtype}; {size.bytes_free / 1e9:.1f} GB are free.",
            "Choose bfloat16, a smaller model, or a device with more memory.",
        )
    if device == "cpu" and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1 if size.n_parameters < _ONE_THREAD_BELOW else max(1, psutil.cpu_count(logical=False) or 1))
    noted = (models_of() if models is None else models).parent / HASHES
    tell(0.2, f"Reading the weights of {name}")
    if (dtype in QUANTISED or device == SPREAD) and (gguf.is_gguf(source) or is_backpack_folder(source)):
        what = f"quantised to {dtype}" if dtype in QUANTISED else "shared out among GPUs"
        raise ModelUnavailable(f"{name} is no Hugging Face folder, so it cannot be {what}.", "Choose float32 or bfloat16, and one device.")
    if is_backpack_folder(source):
        from workbench.models.backpack.model import load_backpack

        backpack = load_backpack(Path(source), name=name, dtype=DTYPES[dtype], device=device)
        backpack.holds = held(Path(source))
        return backpack
    from workbench.models.bridge import BridgeModel

    if gguf.is_gguf(source):
        network, tokenizer = gguf.read_gguf(source, dtype=DTYPES[dtype], progress=tell.part(0.2, 0.7))
        with tempfile.TemporaryDirectory() as folder:
            network.config.save_pretrained(folder)  # TransformerLens reads a model's config from a folder
            tell(0.7, "Naming the sites")
            return BridgeModel(network.to(device), tokenizer, source=folder, name=name, revision=revision, noted=noted)
    options = loading_options(dtype, device)
    network, tokenizer = _read(name, source, local, DTYPES[dtype], revision, options)
    tell(0.7, "Naming the sites")
    model = BridgeModel(network if options else network.to(device), tokenizer, source=source, name=name, revision=revision, noted=noted)
    model.holds = held(Path(source))
    return model


def is_backpack_folder(source: str) -> bool:
    """Whether a folder holds a Backpack."""
    path = Path(source) / "config.json"
    return path.is_file() and is_backpack(described(path))


def _reach(source: str) -> bool:
    """Whether a model has to be read without the hub: from a folder, or from the cache because the hub does not answer.

    Raises:
        ModelUnavailable: the hub does not answer, and the model is not in its cache; or the hub has none of that name.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if Path(source).exists():
        return True
    if hub_has(source):
        return False
    if isinstance(try_to_load_from_cache(source, "config.json"), str):
        return True
    silent_hub = "The hub is not asked (HF_HUB_OFFLINE is set)"
    if not constants.HF_HUB_OFFLINE:
        silent_hub = f"The hub did not answer within {HUB_ANSWERS_WITHIN:g} seconds"
    raise ModelUnavailable(
        f"{silent_hub}, and {source} is not on this machine.",
        "Check the name and the network, or choose a model that is here: retouch models lists them.",
    )


def _read(name: str, source: str, local: bool, dtype: torch.dtype, revision: str, more: dict[str, Any]) -> tuple[Any, Any]:
    def read() -> tuple[Any, Any]:
        options = {"revision": revision or None, "local_files_only": local, "trust_remote_code": False, **more}
        with BUILDING:
            both: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
        network, told = both
        missing = sorted(told["missing_keys"]) + sorted(str(key) for key in told.get("mismatched_keys", ()))
        if missing:
            raise CorruptModel(
                f"The weights of {name} lack {len(missing)} tensors or have them in another shape (first: {missing[0]}).",
                "Save or download the model again.",
            )
        _check_suppressed(name, network)
        if not more:
            align(network)
        return network, _tokenizer(source, revision, local)

    return _from_hub(name, read)


def _check_suppressed(name: str, network: Any) -> None:
    """Refuse a generation config that names tokens which the network has none of."""
    own, size = network.generation_config, int(network.config.get_text_config().vocab_size)
    for field in ("suppress_tokens", "begin_suppress_tokens"):
        beyond = [i for i in getattr(own, field, None) or () if i >= size]
        if beyond:
            raise CorruptModel(
                f"The generation_config.json of {name} has token {beyond[0]} in {field}; the vocabulary has {size:,}.", "Restore the file."
            )


def _tokenizer(source: str, revision: str, local: bool) -> Any:
    """Load the tokenizer that the folder itself declares: for some model types AutoTokenizer overrides it and then splits nothing."""
    declared = Path(source) / "tokenizer_config.json"
    if declared.is_file() and described(declared).get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        return PreTrainedTokenizerFast.from_pretrained(source)
    return AutoTokenizer.from_pretrained(source, revision=revision or None, local_files_only=local, trust_remote_code=False)


def _from_hub(name: str, call: Any) -> Any:
    """Call into transformers, and say in our words what went wrong."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, StrictDataclassError
    from safetensors import SafetensorError

    try:
        return call()
    except GatedRepoError as error:
        raise ModelUnavailable(f"{name} is gated on the hub.", "Accept its licence there, then log in with: hf auth login.") from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(f"The hub has no model {name!r}.", "Check the spelling, or give a local folder.") from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        if "ignore_mismatched_sizes" in str(error):
            raise CorruptModel(
                f"The weights of {name} have other shapes than its config.json says.", "Restore the one or the other, from one model."
            ) from error
        raise CorruptModel(f"The weights of {name} cannot be read: {error}", "Save or download the model again.") from error
    except (OSError, ConnectionError) as error:
        raise ModelUnavailable(
            f"{name} could not be loaded: {str(error).splitlines()[0]}",
            "Check the name and the network, or give a local folder, or 'embedded'.",
        ) from error
    except (LookupError, ArithmeticError, *_FOREIGN, StrictDataclassError) as error:
        if "trust_remote_code" in str(error):
            raise ModelUnavailable(
                f"{name} comes with program code of its own, and Retouch runs no code that a model brings (trust_remote_code is off).",
                "Choose a model that transformers builds itself, or a version of this one that it does.",
            ) from error
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = f"there is no {said}" if isinstance(error, KeyError) else said
        raise ModelUnavailable(
            f"{name} is not a causal language model that transformers can build here: {said}",
            "Check its config.json, or choose a model of a family in docs/families.md.",
        ) from error
