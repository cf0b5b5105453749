"""Edits on disk: `edit.json`, `edit.safetensors` and a generated card, written whole or not at all. Nothing executable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from workbench.edits.base import EDIT_SCHEMA, Edit, Header, Possible, kind_of, sha256
from workbench.errors import BadLane, BadPlace, CorruptEdit, NewerSchema, StorageFailed, UnknownName
from workbench.models.base import Fingerprint
from workbench.models.tensor_files import read_tensors
from workbench.operations import POSITION_RULES, Gate, TransformAt, rule_of
from workbench.place import read_place
from workbench.shapes import Tensor
from workbench.sites import Site
from workbench.whole import whole_folder

_Types = Mapping[str, type]
DESCRIBED, TENSORS, CARD = "edit.json", "edit.safetensors", "README.md"
# Only what a file holds needs its newer schema: one without norm bounds (2), rows (3), a hash of all weights (4) and a place (5) is read
# by older versions too.
NEWEST = 5
# A folder may lack a dose, which is 1 then, norm bounds, a place, and the rows that it was fitted on.
_KEYS: _Types = {"schema": int, "kind": str, "header": dict, "gates": dict, "tensors": dict}
_LATER_KEYS: _Types = {"dose": float, "spares": dict, "place": str}
_HEADER_KEYS: _Types = {
    "method": str, "config": dict, "model": dict, "data": str, "seed": int, "versions": dict, "facts": dict, "schema": int
}  # fmt: skip
_LATER_HEADER_KEYS: _Types = {"rows": list}
_LATER_MODEL_KEYS: _Types = {"sampled": str}
_MODEL_KEYS: _Types = {item.name: str for item in fields(Fingerprint) if item.name not in _LATER_MODEL_KEYS}
_GATE_KEYS: _Types = {"kind": str, "sharpness": float}
_TENSOR_KEYS: _Types = {"dtype": str, "shape": list, "sha256": str}
_WORDS = {int: "a whole number", float: "a finite number", str: "a text", dict: "an object", list: "a list"}
_RESTORE = "Restore the folder from a copy."
# What a class meets in facts that are of the right JSON type and mean nothing.
_MEANINGLESS = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)


def save(edit: Edit, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write an edit's folder atomically: a reader sees the old one, the new one, or none.

    overwrite: replace the folder if it is an edit's and holds nothing else.

    Raises:
        StorageFailed: the folder exists and is not to be replaced, or the disk refuses.
    """
    target = Path(folder)
    if edit.held_to is not None or edit.where:
        what = "at some positions by its lane" if edit.where else "to some of its layers"
        raise StorageFailed(
            f"This {edit.header.method} edit is held {what}, which no folder keeps.",
            f"Make the place its own: edit.placed({edit.where!r})." if edit.where else "Save the whole edit.",
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in edit.all_tensors().items()}
    try:
        with whole_folder(target, replaces=is_edit if overwrite else None) as draft:
            save_file(tensors, draft / TENSORS)
            (draft / DESCRIBED).write_text(json.dumps(_described(edit, tensors), indent=1, sort_keys=True) + "\n")
            (draft / CARD).write_text(card(edit))
    except (OSError, SafetensorError) as error:
        raise StorageFailed(f"The edit could not be written to {target}: {error}", "Free some space or choose another folder.") from error
    return target


def is_edit(folder: Path) -> bool:
    """Whether a folder is empty or what `save` writes, with no other file in it."""
    found = {path.name for path in folder.iterdir()}
    return found <= {TENSORS, DESCRIBED, CARD} and (not found or DESCRIBED in found)


def load_edit(folder: str | Path) -> Edit:
    """Read an edit's folder and check it against its own description. The edit has the dose it was saved at, 1 where the folder names none.

    Raises:
        CorruptEdit: a file is missing, a key is unknown, or a tensor differs from what is described.
        NewerSchema: it was written by a newer version.
        UnknownName: its kind is not registered.
    """
    source = Path(folder)
    told = _described_in(source)
    tensors, header_told = _tensors(source, told["tensors"]), dict(told["header"])
    told_model = Fingerprint(**header_told.pop("model"))
    header = Header(model=told_model, rows=tuple(header_told.pop("rows", ())), **header_told)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("gate.")}
    kind = kind_of(told["kind"])
    try:
        gates = {Site.parse(address): _gate(address, facts, tensors) for address, facts in told["gates"].items()}
        spares = {Site.parse(address): _bound(address, bound) for address, bound in told.get("spares", {}).items()}
        edit = replace(
            kind.from_tensors(header, own),
            dose=float(told.get("dose", 1.0)),
            gates=MappingProxyType(gates),
            spares=MappingProxyType(spares),
        ).placed(told.get("place", ""))
        _tried(edit)
    except (*_MEANINGLESS, BadPlace, BadLane, UnknownName) as error:
        what = f"{source} describes no {told['kind']} edit: {type(error).__name__} {error}."
        raise CorruptEdit(what, _RESTORE) from error
    return edit


@torch.no_grad()
def _tried(edit: Edit) -> None:
    """Make what the edit would do, and do it to one token of zeros, so that no forward meets what no class can mean."""
    for op in edit.operations():
        if not isinstance(op, TransformAt):
            continue
        if not isinstance(cast(object, op.where), str) or (rule_of(op.where) is None and op.where != edit.place):
            raise ValueError(f"{op.where!r} is no position rule of {', '.join(POSITION_RULES)}")
        x = torch.zeros(1, 1, op.width, dtype=next((t.dtype for t in edit.tensors().values() if t.is_floating_point()), torch.float32))
        if not op.sees_call and op.fn(x).shape != x.shape:
            raise ValueError(f"at {op.site} it makes {tuple(op.fn(x).shape)} of {tuple(x.shape)}")
        if op.gate is not None:
            op.gate(x)


def _described_in(source: Path) -> dict[str, Any]:
    """The description in a folder, every field of its type; what the fields mean is left to the classes."""
    told = _json(source / DESCRIBED)
    schema = told.get("schema", 0) if isinstance(cast(object, told), dict) else 0
    if isinstance(schema, int) and schema > NEWEST:
        raise NewerSchema(f"{source} has schema {schema}; this version reads up to {NEWEST}.", "Update Retouch.")
    _typed(source, "edit.json", told, _KEYS, _LATER_KEYS)
    _typed(source, "header", told["header"], _HEADER_KEYS, _LATER_HEADER_KEYS)
    _typed(source, "model", told["header"]["model"], _MODEL_KEYS, _LATER_MODEL_KEYS)
    for address, gate in told["gates"].items():
        _typed(source, f"gate {address}", gate, _GATE_KEYS)
    for name, tensor in told["tensors"].items():
        _typed(source, f"tensor {name}", tensor, _TENSOR_KEYS)
    header = told["header"]
    for name, items in (("rows", header.get("rows", [])), ("versions", header["versions"].values())):
        if not all(isinstance(item, str) for item in items):
            raise CorruptEdit(f"{source}/edit.json has {name} {str(header[name]):.60}; needed are texts.", _RESTORE)
    return told


def _typed(source: Path, place: str, told: Any, needed: _Types, later: _Types | None = None) -> None:
    """Refuse unknown, missing and mistyped fields by name."""
    if not isinstance(told, dict):
        raise CorruptEdit(f"{source}: {place} is {str(told):.40}; needed is an object.", _RESTORE)
    found, known = cast(dict[str, object], told), {**needed, **(later or {})}
    for word, names in (("an unknown key", set(found) - set(known)), ("no", set(needed) - set(found))):
        if names:
            raise CorruptEdit(f"{source}: {place} has {word} {sorted(names)[0]!r}.", _RESTORE)
    for name, value in found.items():
        if not _is_a(value, known[name]):
            raise CorruptEdit(f"{source}: {place} has {str(value):.40} as {name!r}; needed is {_WORDS[known[name]]}.", _RESTORE)


def _is_a(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


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
    lines += ["", f"It acts {read_place(edit.place).label}."] if edit.place else []
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
        **({"place": edit.place} if edit.place else {}),
        "schema": 5 if edit.place else 4 if edit.header.model.sampled else 3 if edit.header.rows else 2 if spares else EDIT_SCHEMA,
        "kind": edit.kind,
        "header": edit.header.as_json(),
        "dose": edit.dose,
        "gates": {str(site): {"kind": gate.kind, "sharpness": gate.sharpness} for site, gate in edit.gates.items()},
        "tensors": {
            name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "sha256": sha256(t)} for name, t in tensors.items()
        },
    }


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        hint = "Pickled edits are never read; export again with this version." if any(path.parent.glob("*.p*t*")) else "Check the path."
        raise CorruptEdit(f"{path.parent} holds no {path.name}.", hint)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptEdit(f"{path} cannot be read as JSON: {error}", _RESTORE) from error


def _tensors(source: Path, told: Mapping[str, Any]) -> dict[str, Tensor]:
    try:
        tensors = read_tensors(source / TENSORS)
    except (OSError, SafetensorError) as error:
        raise CorruptEdit(f"{source}/edit.safetensors cannot be read: {error}", _RESTORE) from error
    for name in sorted(set(told) ^ set(tensors)):
        raise CorruptEdit(f"The tensor {name!r} is in one of edit.json and edit.safetensors only.", _RESTORE)
    for name, tensor in tensors.items():
        if told[name]["sha256"] != sha256(tensor):
            raise CorruptEdit(f"The tensor {name!r} of {source} was altered: its hash differs.", _RESTORE)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CorruptEdit(f"The tensor {name!r} of {source} holds NaN or infinite values.", "Fit the edit again.")
    return tensors


def _gate(address: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Gate:
    try:
        return Gate(tensors[f"gate.{address}.weight"], tensors[f"gate.{address}.bias"], facts["kind"], float(facts["sharpness"]))
    except KeyError as error:
        raise CorruptEdit(f"The gate at {address} lacks {error}.", _RESTORE) from error


def _bound(address: str, bound: Any) -> float:
    if not isinstance(bound, int | float) or not 0 < bound < float("inf"):
        raise CorruptEdit(f"The norm bound at {address} is {bound!r}; it has to be a number above 0.", _RESTORE)
    return float(bound)
