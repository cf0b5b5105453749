"""Fits of lenses on disk: one a model, under the hash of its weights, in the workspace's folder `lenses`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import StorageFailed
from workbench.lenses import registry
from workbench.models.base import LanguageModel
from workbench.models.tensor_files import noted_tensors, write_noted
from workbench.progress import silent
from workbench.workspace.database import storing

if TYPE_CHECKING:
    from workbench.lenses.jacobian_fit import JacobianFit

_FACTS = {"model": str, "weights": str, "layers": list, "source": str, "n_texts": int, "n_tokens": int, "agreement": list}


def kept_fit(folder: Path, model: LanguageModel) -> JacobianFit | None:
    """The Jacobian lens that was fitted on a model last; None if none was.

    Raises:
        StorageFailed: its file is damaged, or of another model.
    """
    path = _path(folder, model)
    try:
        at = path.stat()
    except FileNotFoundError:
        return None
    return _read(path, (at.st_mtime_ns, at.st_size), model.fingerprint.weights, model.info.d_model)


@lru_cache(maxsize=1)
def _read(path: Path, at: tuple[int, int], weights: str, width: int) -> JacobianFit:
    """A file as it was at a time: the last one stays at hand, as a page asks at every run."""
    from workbench.lenses.jacobian_fit import JacobianFit

    try:
        tensors, facts = noted_tensors(path)
        wrong = [name for name, kind in _FACTS.items() if not isinstance(facts.get(name), kind)]
        layers, agreement, matrices = tuple(facts["layers"]), tuple(facts["agreement"]), tensors["matrices"]
        if wrong or facts["weights"] != weights or matrices.shape != (len(layers), width, width):
            raise ValueError(f"it holds {sorted(facts)} and a tensor of {tuple(matrices.shape)}")
    except (OSError, KeyError, ValueError) as error:
        raise StorageFailed(
            f"{path} is no Jacobian lens of the loaded model: {error}.", "Delete the file, and fit the lens anew."
        ) from None
    return JacobianFit(facts["model"], facts["weights"], layers, matrices, facts["source"], facts["n_texts"], facts["n_tokens"], agreement)


def keep_fit(folder: Path, model: LanguageModel, fit: JacobianFit) -> None:
    """Keep a Jacobian lens in place of the model's last one. Raises: StorageFailed."""
    facts = {name: getattr(fit, name) for name in _FACTS}
    with storing(f"The folder {folder}"):
        write_noted(_path(folder, model), {"matrices": fit.matrices}, facts)


def looked(folder: Path, model: LanguageModel, lens: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """What a lens shows that reads through a fit, or fits: what was kept is used, and what is fitted is kept. Raises: as the lens."""
    look = registry.lens(lens)
    fit = registry.read_through(lens)
    if not fit:
        found = look(model, *args, **options)
        keep_fit(folder, model, found)
        return found
    tell = options.get("progress") or silent()
    fitted = options.get("fitted") or kept_fit(folder, model)
    if fitted is None:
        fitted = looked(folder, model, fit, (), {"progress": tell.part(0.0, 0.9)})
        tell = tell.part(0.9, 1.0)
    return look(model, *args, **{**options, "fitted": fitted, "progress": tell})


def _path(folder: Path, model: LanguageModel) -> Path:
    return folder / "lenses" / f"{model.fingerprint.weights}.safetensors"
