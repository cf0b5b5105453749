"""Edits on disk: `edit.json`, `edit.safetensors` and a generated card, written whole or not at all. Nothing executable."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from workbench.edits.base import EDIT_SCHEMA, Edit, Header, Possible, kind_of, sha256
from workbench.errors import CorruptEdit, NewerSchema, StorageFailed
from workbench.models.base import Fingerprint
from workbench.models.tensor_files import read_tensors
from workbench.operations import Gate
from workbench.shapes import Tensor
from workbench.sites import Site

# Only what a file holds needs its newer schema: one without norm bounds (2) and rows (3) is read by older versions too.
NEWEST = 3
# A folder may lack a dose, which is 1 then, norm bounds, and the rows that it was fitted on.
_KEYS, _LATER_KEYS = {"schema", "kind", "header", "gates", "tensors"}, {"dose", "spares"}
_HEADER_KEYS, _LATER_HEADER_KEYS = {"method", "config", "model", "data", "seed", "versions", "facts", "schema"}, {"rows"}


def save(edit: Edit, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write an edit's folder atomically: a reader sees the old one, the new one, or none.

    Raises:
        StorageFailed: the folder exists and `overwrite` is off, or the disk refuses.
    """
    target = Path(folder)
    if target.exists() and not overwrite:
        raise StorageFailed(f"{target} exists already.", "Choose another folder, or allow overwriting.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in edit.all_tensors().items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            save_file(tensors, draft / "edit.safetensors")
            (draft / "edit.json").write_text(json.dumps(_described(edit, tensors), indent=1, sort_keys=True) + "\n")
            (draft / "README.md").write_text(card(edit))
            draft.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
                os.replace(target, old / "was")
                os.replace(draft, target)
                shutil.rmtree(old)
            else:
                os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise StorageFailed(f"The edit could not be written to {target}: {error}", "Free some space or choose another folder.") from error
    return target


def load_edit(folder: str | Path) -> Edit:
    """Read an edit's folder and check it against its own description. The edit has the dose it was saved at, 1 where the folder names none.

    Raises:
        CorruptEdit: a file is missing, a key is unknown, or a tensor differs from what is described.
        NewerSchema: it was written by a newer version.
        UnknownName: its kind is not registered.
    """
    source = Path(folder)
    told = _json(source / "edit.json")
    if int(told.get("schema", 0)) > NEWEST:
        raise NewerSchema(f"{source} has schema {told['schema']}; this version reads up to {NEWEST}.", "Update Retouch.")
    _same_keys(source, {name: value for name, value in told.items() if name not in _LATER_KEYS}, _KEYS)
    dose = _dose(source, told.get("dose", 1.0))
    header_told: dict[str, Any] = told["header"]
    _same_keys(source, {name: value for name, value in header_told.items() if name not in _LATER_HEADER_KEYS}, _HEADER_KEYS)
    tensors = _tensors(source, told["tensors"])
    told_model = Fingerprint(**header_told.pop("model"))
    header = Header(model=told_model, rows=_rows(source, header_told.pop("rows", [])), **header_told)
    gates = {Site.parse(address): _gate(address, facts, tensors) for address, facts in told["gates"].items()}
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("gate.")}
    edit = kind_of(told["kind"]).from_tensors(header, own)
    spares = {Site.parse(address): _bound(address, bound) for address, bound in told.get("spares", {}).items()}
    return replace(edit, dose=dose, gates=MappingProxyType(gates), spares=MappingProxyType(spares))


def card(edit: Edit) -> str:
    """A page about the edit, from its own header."""
    head = edit.header
    lines = [
        f"# {head.method} edit {edit.id}",
        "",
        f"Fitted on `{head.model.name}` ({head.model.dtype}), seed {head.seed}. Dose {edit.dose:g}.",
    ]
    lines += ["", f"The demonstrations were conversations, rendered by the {head.rendered}."] * bool(head.rendered)
    lines += [f"System turn: {head.system}"] * bool(head.system)
    lines += ["", "| knob | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in sorted(head.config.items()))]
    lines += ["", "| export | |", "|---|---|"]
    lines += [f"| {name} | {'exact' if isinstance(can, Possible) else can.reason} |" for name, can in edit.possible_exports().items()]
    lines += ["", "| tensor | shape |", "|---|---|"]
    lines += [f"| {name} | {tuple(tensor.shape)} |" for name, tensor in sorted(edit.all_tensors().items())]
    lines += ["", f"Model weights `{head.model.weights}`, demonstrations `{head.data}`."]
    return "\n".join(lines) + "\n"


def _described(edit: Edit, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    spares = {"spares": {str(site): bound for site, bound in edit.spares.items()}} if edit.spares else {}
    return {
        **spares,
        "schema": 3 if edit.header.rows else 2 if spares else EDIT_SCHEMA,
        "kind": edit.kind,
        "header": edit.header.as_json(),
        "dose": edit.dose,
        "gates": {str(site): {"kind": gate.kind, "sharpness": gate.sharpness} for site, gate in edit.gates.items()},
        "tensors": {
            name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "sha256": sha256(t)} for name, t in tensors.items()
        },
    }


def _dose(source: Path, told: Any) -> float:
    if not isinstance(told, (int, float)) or not math.isfinite(told):
        raise CorruptEdit(f"{source}/edit.json has the dose {told!r}, which is no finite number.", "Restore the folder from a copy.")
    return float(told)


def _rows(source: Path, told: Any) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(mark, str) for mark in cast(list[object], told)):
        raise CorruptEdit(f"{source}/edit.json has rows {str(told):.60}; needed is a list of texts.", "Restore the folder from a copy.")
    return tuple(cast(list[str], told))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        hint = "Pickled edits are never read; export again with this version." if any(path.parent.glob("*.p*t*")) else "Check the path."
        raise CorruptEdit(f"{path.parent} holds no {path.name}.", hint)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptEdit(f"{path} cannot be read as JSON: {error}", "Restore the folder from a copy.") from error


def _same_keys(source: Path, told: Mapping[str, Any], wanted: set[str]) -> None:
    for word, names in (("an unknown key", set(told) - wanted), ("no", wanted - set(told))):
        if names:
            raise CorruptEdit(f"{source}/edit.json has {word} {sorted(names)[0]!r}.", "Restore the folder from a copy.")


def _tensors(source: Path, told: Mapping[str, Any]) -> dict[str, Tensor]:
    try:
        tensors = read_tensors(source / "edit.safetensors")
    except (OSError, SafetensorError) as error:
        raise CorruptEdit(f"{source}/edit.safetensors cannot be read: {error}", "Restore the folder from a copy.") from error
    for name in sorted(set(told) ^ set(tensors)):
        raise CorruptEdit(f"The tensor {name!r} is in one of edit.json and edit.safetensors only.", "Restore the folder from a copy.")
    for name, tensor in tensors.items():
        if told[name]["sha256"] != sha256(tensor):
            raise CorruptEdit(f"The tensor {name!r} of {source} was altered: its hash differs.", "Restore the folder from a copy.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CorruptEdit(f"The tensor {name!r} of {source} holds NaN or infinite values.", "Fit the edit again.")
    return tensors


def _gate(address: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Gate:
    try:
        return Gate(tensors[f"gate.{address}.weight"], tensors[f"gate.{address}.bias"], facts["kind"], float(facts["sharpness"]))
    except KeyError as error:
        raise CorruptEdit(f"The gate at {address} lacks {error}.", "Restore the folder from a copy.") from error


def _bound(address: str, bound: Any) -> float:
    if not isinstance(bound, int | float) or not 0 < bound < float("inf"):
        raise CorruptEdit(f"The norm bound at {address} is {bound!r}; it has to be a number above 0.", "Restore the folder from a copy.")
    return float(bound)
