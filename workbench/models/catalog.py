"""Where models come from: the two that ship with Retouch, a local Hugging Face folder, or a hub id."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from workbench.errors import CorruptModel, ModelUnavailable, NotEnoughMemory
from workbench.models import gguf
from workbench.models.backpack.files import is_backpack
from workbench.models.base import LanguageModel
from workbench.models.fetching import fetch, fetched, recommended
from workbench.models.tensor_files import align
from workbench.progress import Progress, silent
from workbench.resources import MODELS, RECOMMENDED, models_of

EMBEDDED = {"embedded": MODELS / "retouch-gpt", "embedded-backpack": MODELS / "retouch-backpack"}
_EMBEDDED_PARAMETERS = {"embedded": 3_259_392, "embedded-backpack": 3_067_632}
DTypeName = Literal["float32", "float64", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# transformers' own bars would mix with our progress, and with errors on stderr.
logging.disable_progress_bar()

# Below this many parameters a second thread costs more than it brings, and with another busy process 5 to 50 times more.
_ONE_THREAD_BELOW = 30_000_000
# Weights, plus activations, a cache and a loading buffer; measured peaks of GPT-2-shaped models lie between 1.1 and 1.3.
_OVERHEAD = 1.3


@dataclass(frozen=True)
class Entry:
    """One model that can be chosen without typing anything. `parameters` is 0 where only the files would tell."""

    name: str
    title: str
    kind: Literal["embedded", "fetched", "cached", "recommended"]
    location: str
    is_present: bool
    parameters: int = 0
    licence: str = ""
    note: str = ""

    @property
    def bytes_needed(self) -> int:
        """Memory that it needs in float32, by its number of parameters."""
        return int(4 * self.parameters * _OVERHEAD)

    @property
    def fits(self) -> bool:
        """Whether that is free now."""
        return self.bytes_needed <= _free("cpu")


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


def entries(models: Path | None = None) -> tuple[Entry, ...]:
    """What is at hand: the embedded models, those fetched into `models` (default: the workspace's), those in the hub's cache; then those
    worth fetching."""
    models = models_of() if models is None else models
    titles = {"embedded": "Embedded GPT-style model", "embedded-backpack": "Embedded Backpack (16 senses a word)"}
    found = [
        Entry(name, titles[name], "embedded", str(folder), (folder / "config.json").exists(), _EMBEDDED_PARAMETERS[name], "Apache-2.0")
        for name, folder in EMBEDDED.items()
    ]
    known = recommended(RECOMMENDED)
    for item in known:
        folder = fetched(item.name, models)
        if folder is not None:
            found.append(Entry(item.name, item.title, "fetched", str(folder), True, item.parameters, item.licence, item.note))
    cached, by_hub = _cached(), {item.hub: item for item in known}
    for hub_id, folder in cached.items():
        item = by_hub.get(hub_id)
        title, licence = (item.title, item.licence) if item else (hub_id, "")
        found.append(Entry(hub_id, title, "cached", str(folder), True, item.parameters if item else 0, licence))
    there = {entry.name for entry in found} | set(cached)
    found += [
        Entry(item.name, item.title, "recommended", item.hub, False, item.parameters, item.licence, item.note)
        for item in known
        if item.name not in there and item.hub not in there
    ]
    return tuple(found)


def _cached() -> dict[str, Path]:
    """Models with weights in the hub's cache, by id."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    return {
        repo.repo_id: Path(repo.repo_path)
        for repo in sorted(repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model" and any(f.file_name.endswith((".safetensors", ".bin")) for r in repo.revisions for f in r.files)
    }


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
    about = _config(path)
    return f"From {about['from']}; licence {about['licence']}; weights: {about['weights']}."


def located(name: str, models: Path | None = None) -> str:
    """The folder, file or hub id that a model's name stands for.

    Raises:
        ModelUnavailable: no such model, folder or file.
    """
    if name in EMBEDDED:
        if not (EMBEDDED[name] / "config.json").exists():
            raise ModelUnavailable(
                f"The model {name!r} is not in {EMBEDDED[name]}.", "Run: python -m workbench.world train, or restore assets/models."
            )
        return str(EMBEDDED[name])
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
    if name in known:
        folder = fetched(name, models_of() if models is None else models)
        if folder is None:
            raise ModelUnavailable(f"The model {name!r} has not been fetched yet.", f"Run: retouch models get {name}")
        return str(folder)
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or name.lower().endswith(".gguf"):
        raise ModelUnavailable(
            f"There is no folder or file {name}.", f"Check the path, or give a hub id or one of: {', '.join((*EMBEDDED, *known))}."
        )
    return name


def estimate(
    name: str, *, dtype: DTypeName = "float32", device: str = "cpu", revision: str = "", models: Path | None = None
) -> MemoryEstimate:
    """Estimate the memory that a model needs, from its config alone.

    Raises:
        ModelUnavailable: there is no such model, or no network, or no access.
    """
    source = located(name, models)
    if gguf.is_gguf(source):
        count, architecture = gguf.gguf_facts(source).n_parameters, gguf.gguf_facts(source).architecture
    elif is_backpack_folder(source):
        from workbench.models.backpack.model import parameter_count

        count, architecture = parameter_count(Path(source)), "BackpackGPT2LMHeadModel"
    else:
        config = _from_hub(name, lambda: AutoConfig.from_pretrained(source, revision=revision or None))
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        count, architecture = sum(p.numel() for p in network.parameters()), type(network).__name__
    needed = int(count * torch.finfo(DTYPES[dtype]).bits / 8 * _OVERHEAD)
    return MemoryEstimate(name, architecture, count, needed, _free(device))


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
    tell(0.05, f"Looking up {name}")
    size = estimate(name, dtype=dtype, device=device, revision=revision, models=models)
    if not size.fits:
        raise NotEnoughMemory(
            f"{name} needs about {size.bytes_needed / 1e9:.1f} GB in {dtype}; {size.bytes_free / 1e9:.1f} GB are free.",
            "Choose bfloat16, a smaller model, or a device with more memory.",
        )
    source = located(name, models)
    if torch.device(device).type == "cpu" and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1 if size.n_parameters < _ONE_THREAD_BELOW else max(1, psutil.cpu_count(logical=False) or 1))
    tell(0.2, f"Reading the weights of {name}")
    if is_backpack_folder(source):
        from workbench.models.backpack.model import load_backpack

        return load_backpack(Path(source), name=name, dtype=DTYPES[dtype], device=device)
    from workbench.models.bridge import BridgeModel

    if gguf.is_gguf(source):
        network, tokenizer = gguf.read_gguf(source, dtype=DTYPES[dtype], progress=tell.part(0.2, 0.7))
        with tempfile.TemporaryDirectory() as folder:
            network.config.save_pretrained(folder)  # TransformerLens reads a model's config from a folder
            tell(0.7, "Naming the sites")
            return BridgeModel(network.to(device), tokenizer, source=folder, name=name, revision=revision)
    network, tokenizer = _read(name, source, DTYPES[dtype], revision)
    tell(0.7, "Naming the sites")
    return BridgeModel(network.to(device), tokenizer, source=source, name=name, revision=revision)


def is_backpack_folder(source: str) -> bool:
    """Whether a folder holds a Backpack."""
    path = Path(source) / "config.json"
    return path.is_file() and is_backpack(_config(path))


def _config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptModel(f"{path} cannot be read as JSON: {error}", "Save the model folder again.") from error


def _read(name: str, source: str, dtype: torch.dtype, revision: str) -> tuple[Any, Any]:
    def read() -> tuple[Any, Any]:
        both: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, revision=revision or None, output_loading_info=True)
        network, told = both
        missing = sorted(told["missing_keys"]) + sorted(str(key) for key in told.get("mismatched_keys", ()))
        if missing:
            raise CorruptModel(
                f"The weights of {name} lack {len(missing)} tensors or have them in another shape (first: {missing[0]}).",
                "Save or download the model again.",
            )
        align(network)
        return network, _tokenizer(source, revision)

    return _from_hub(name, read)


def _tokenizer(source: str, revision: str) -> Any:
    """Load the tokenizer that the folder itself declares: for some model types AutoTokenizer overrides it and then splits nothing."""
    declared = Path(source) / "tokenizer_config.json"
    if declared.is_file() and _config(declared).get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        return PreTrainedTokenizerFast.from_pretrained(source)
    return AutoTokenizer.from_pretrained(source, revision=revision or None)


def _from_hub(name: str, call: Any) -> Any:
    """Call into transformers, and say in our words what went wrong."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from safetensors import SafetensorError

    try:
        return call()
    except GatedRepoError as error:
        raise ModelUnavailable(f"{name} is gated on the hub.", "Accept its licence there, then log in with: hf auth login.") from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(f"The hub has no model {name!r}.", "Check the spelling, or give a local folder.") from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise CorruptModel(f"The weights of {name} cannot be read: {error}", "Save or download the model again.") from error
    except (OSError, ConnectionError) as error:
        raise ModelUnavailable(
            f"{name} could not be loaded: {str(error).splitlines()[0]}",
            "Check the name and the network, or give a local folder, or 'embedded'.",
        ) from error
    except (ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"{name} is not a causal language model that transformers knows: {str(error).splitlines()[0]}",
            "Choose a model of a supported family: GPT-2, GPT-NeoX/Pythia, Llama, Qwen, Gemma, Mistral.",
        ) from error


def _free(device: str) -> int:
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)
