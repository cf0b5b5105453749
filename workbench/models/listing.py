"""What can be chosen without typing: models on this machine, and models worth fetching; with what each needs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.models.catalog import bytes_free, bytes_needed
from workbench.models.fetching import recommended
from workbench.models.gguf import ABOUT
from workbench.resources import EMBEDDED, RECOMMENDED, models_of

# Titles and numbers of parameters.
_EMBEDDED = {
    "embedded": ("Embedded GPT-style model", 3_259_392),
    "embedded-backpack": ("Embedded Backpack (16 senses a word)", 3_067_632),
}
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class Entry:
    """One model that can be chosen without typing anything. `parameters` is 0 where only loading would tell.

    A recommended one stays so once it is present.
    """

    name: str
    title: str
    kind: Literal["embedded", "fetched", "cached", "recommended"]
    location: str
    is_present: bool
    parameters: int = 0
    licence: str = ""
    note: str = ""
    is_recommended: bool = False

    def needs(self, dtype: str = "float32") -> int:
        """Bytes of memory that it needs in a number type, by its number of parameters."""
        return bytes_needed(self.parameters, dtype)

    def fits_in(self, dtype: str = "float32", device: str = "cpu") -> bool:
        """Whether that is free now."""
        return self.needs(dtype) <= bytes_free(device)

    @property
    def fits(self) -> bool:
        """Whether it fits in float32 on the processor."""
        return self.fits_in()


def entries(models: Path | None = None) -> tuple[Entry, ...]:
    """What is at hand: the embedded models, those in `models` (default: the workspace's), those in the hub's cache; then those worth
    fetching, the smallest first."""
    known = recommended(RECOMMENDED)
    by_name, by_hub = {item.name: item for item in known}, {item.hub: item for item in known}
    found = [
        Entry(name, title, "embedded", str(EMBEDDED[name]), (EMBEDDED[name] / "config.json").exists(), n, "Apache-2.0")
        for name, (title, n) in _EMBEDDED.items()
    ]
    models = models_of() if models is None else models
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        if folder.name.startswith(".") or not (folder / "config.json").is_file():
            continue
        item = by_name.get(folder.name)
        title, note = (item.title, item.note) if item else (folder.name, "")
        n, licence = (item.parameters, item.licence) if item else (_parameters(folder), _licence(folder))
        found.append(Entry(folder.name, title, "fetched", str(folder), True, n, licence, note, item is not None))
    cached = _cached()
    for hub_id, folder in cached.items():
        item = by_hub.get(hub_id)
        n, title, licence = (item.parameters, item.title, item.licence) if item else (_parameters(folder), hub_id, "")
        found.append(Entry(hub_id, title, "cached", str(folder), True, n, licence, is_recommended=item is not None))
    there = {entry.name for entry in found} | set(cached)
    wanted = sorted((item for item in known if item.name not in there and item.hub not in there), key=lambda item: item.parameters)
    found += [Entry(i.name, i.title, "recommended", i.hub, False, i.parameters, i.licence, i.note, True) for i in wanted]
    return tuple(found)


def _cached() -> dict[str, Path]:
    """Models with weights in the hub's cache: their newest snapshot, by id."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    found: dict[str, Path] = {}
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        whole = [r for r in repo.revisions if any(f.file_name.endswith((".safetensors", ".bin")) for f in r.files)]
        if repo.repo_type == "model" and whole:
            found[repo.repo_id] = Path(max(whole, key=lambda r: r.last_modified).snapshot_path)
    return found


def _parameters(folder: Path) -> int:
    """Count the numbers in a folder's safetensors files by their headers; 0 where one cannot be read or there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as opened:
                size = int.from_bytes(opened.read(8), "little")
                header: dict[str, Any] = json.loads(opened.read(size)) if size < _LONGEST_HEADER else {}
            total += sum(math.prod(item["shape"]) for name, item in header.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError):  # loading it will say what is wrong
            return 0
    return total


def _licence(folder: Path) -> str:
    try:
        return str(json.loads((folder / ABOUT).read_text()).get("licence", ""))
    except (OSError, ValueError, AttributeError):  # a folder of the person's own says nothing
        return ""
