"""Which model an edit belongs to: every byte of the weights counts, older edits are upgraded, an export knows what it holds."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import contrast_rows
from tests.operations import edit_of, noise
from workbench.edits.base import Edit
from workbench.edits.engine import applied, checked
from workbench.edits.export import export
from workbench.edits.store import load_edit, save
from workbench.errors import CorruptModel, ModelMismatch
from workbench.methods.registry import get
from workbench.models import fingerprints
from workbench.models.base import Fingerprint
from workbench.models.catalog import HASHES, load
from workbench.models.fingerprints import HOLDS, fingerprint_of, weight_files
from workbench.opening import open_session
from workbench.operations import AddToWeight, Rows
from workbench.sites import Site


def row_edit(model: Any) -> Edit:
    """A saved kind of edit would do; an edit of one embedding row is what a sample of the weights is least likely to see."""
    return edit_of(model, AddToWeight(Site("w_e"), Rows(torch.tensor([7]), noise(1, model.info.d_model))))


def older(edit: Edit) -> Edit:
    """The edit as a version before schema 4 saved it."""
    model = edit.header.model
    return replace(edit, header=replace(edit.header, model=replace(model, weights=model.sampled, sampled="")))


def changed(folder: Path, to: Path) -> Path:
    """A copy of a model with one number changed, one that no sample sees; what an edit of a row of a large table does to an export."""
    shutil.copytree(folder, to)
    tensors = load_file(path := to / "model.safetensors")
    name = next(key for key in tensors if key.endswith("wte.weight"))
    tensors[name][7, 5] += 1.0
    save_file(tensors, path, metadata={"format": "pt"})
    return to


def test_one_number_of_any_parameter_makes_another_model(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    changed(tiny_folders["gpt2"], tmp_path / "changed")
    one, other = load(str(tiny_folders["gpt2"])).fingerprint, load(str(tmp_path / "changed")).fingerprint
    assert one.sampled == other.sampled, "the sample does not see it, which is what the hash of all is for"
    assert one.weights != other.weights and not one.same_model(other) and not other.same_model(one)


def test_an_older_edit_belongs_to_the_model_of_its_sample_and_no_other(tiny_gpt2: Any) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    old = older(edit)
    assert old.id == edit.id and "sampled" not in old.header.as_json()["model"]
    assert checked(tiny_gpt2, old) is old and checked(tiny_gpt2, edit) is edit
    wrong = replace(old, header=replace(old.header, model=replace(old.header.model, weights="0" * 32)))
    with pytest.raises(ModelMismatch):
        checked(tiny_gpt2, wrong)
    # Two with the hash of all are not compared by samples.
    full = edit.header.model
    assert not full.same_model(replace(full, weights="0" * 32))
    assert not Fingerprint("a", "", "float32", "raw", "").same_model(full)


def test_a_saved_edit_of_an_older_version_is_upgraded_when_its_model_is_there(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    session = open_session(str(tiny_folders["gpt2"]), tmp_path / "home")
    edit = session.fit("mean_difference", contrast_rows()).edit
    (old := older(edit).dosed(0.5))
    info = session.workspace.edits.save(old, "of yore", verdict="fine")
    folder = session.workspace.edits.folder(info.id)
    assert "sampled" not in json.loads((folder / "edit.json").read_text())["header"]["model"]
    again = open_session(str(tiny_folders["gpt2"]), tmp_path / "home")
    assert again.load_edit(info.id).header.model.weights == edit.header.model.weights
    told = json.loads((folder / "edit.json").read_text())
    assert told["schema"] == 4 and told["header"]["model"]["weights"] == edit.header.model.weights
    now = again.workspace.edits.info(info.id)
    assert (now.name, now.verdict, now.dose, now.fit) == ("of yore", "fine", 0.5, edit.id)
    # A folder that is somebody's own is read so, and left as it is.
    save(old, tmp_path / "own")
    assert again.load_edit(tmp_path / "own").header.model.sampled
    assert not load_edit(tmp_path / "own").header.model.sampled


def test_an_older_edit_is_never_bound_to_another_model_of_the_same_sample(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    source, out = str(tiny_folders["gpt2"]), str(changed(tiny_folders["gpt2"], tmp_path / "changed"))
    session = open_session(source, tmp_path / "home")
    edit = session.fit("mean_difference", contrast_rows()).edit
    info = session.workspace.edits.save(older(edit), "of yore")
    described = session.workspace.edits.folder(info.id) / "edit.json"
    before = described.read_bytes()
    other = open_session(out, tmp_path / "home")
    assert other.model.fingerprint.sampled == edit.header.model.sampled and other.model.fingerprint.weights != edit.header.model.weights
    assert not other.load_edit(info.id).header.model.sampled and described.read_bytes() == before
    assert checked(other.model, other.load_edit(info.id)), "by its sample it works, as ever"
    # Whichever of the two is loaded last, on one shelf.
    for names in ((source, out), (out, source)):
        described.write_bytes(before)
        both = open_session(names[0], tmp_path / "home")
        both.load(names[1])
        assert both.load_edit(info.id).header.model == edit.header.model


def test_a_row_edit_is_refused_on_its_own_export(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = row_edit(tiny_gpt2)
    export(tiny_gpt2, edit, "checkpoint", tmp_path / "out", fresh_process=False)
    exported = load(str(tmp_path / "out"))
    assert exported.holds == {edit.id}
    for twice in (edit, older(edit), edit.dosed(2.0)):
        with pytest.raises(ModelMismatch, match=f"holds this .* edit {edit.id} already"), applied(exported, twice):
            pass
    # And what is exported from the export holds both.
    more = edit_of(exported, AddToWeight(Site("w_e"), Rows(torch.tensor([9]), noise(1, 32))))
    export(exported, more, "checkpoint", tmp_path / "more", fresh_process=False)
    assert load(str(tmp_path / "more")).holds == {edit.id, more.id}
    (tmp_path / "out" / HOLDS).write_text('{"edits": 3}')
    with pytest.raises(CorruptModel, match="needed is a list of ids"):
        load(str(tmp_path / "out"))


def test_the_hash_of_large_weights_is_computed_once_for_a_file(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_NOTED_FROM", 0)
    folder = tmp_path / "model"
    shutil.copytree(tiny_folders["gpt2"], folder)
    times: list[int] = []
    whole = fingerprints._whole
    monkeypatch.setattr(fingerprints, "_whole", lambda parameters: times.append(1) or whole(parameters))
    models = tmp_path / "home" / "models"
    first = load(str(folder), models=models).fingerprint
    assert load(str(folder), models=models).fingerprint == first and len(times) == 1
    assert load(str(folder), models=models, dtype="bfloat16").fingerprint.weights != first.weights and len(times) == 2
    os.utime(folder / "model.safetensors")
    assert load(str(folder), models=models).fingerprint == first and len(times) == 3
    for damage in ("[]", "{", '{"x": 1}'):
        (models.parent / HASHES).write_text(damage)
        assert load(str(folder), models=models).fingerprint == first


def test_a_note_is_of_the_number_type_that_was_loaded(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 widens without loss, so its samples are those of the same weights in float32."""
    monkeypatch.setattr(fingerprints, "_NOTED_FROM", 0)
    folder = tmp_path / "model"
    shutil.copytree(tiny_folders["gpt2"], folder)
    path = folder / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    noted = [load(str(folder), models=tmp_path / "home" / "models", dtype=dtype).fingerprint for dtype in ("bfloat16", "float32")]
    assert noted == [load(str(folder), dtype=dtype).fingerprint for dtype in ("bfloat16", "float32")]
    assert noted[0].sampled == noted[1].sampled and noted[0].weights != noted[1].weights


def test_notes_that_cannot_be_written_cost_nothing_but_time(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_NOTED_FROM", 0)
    (tmp_path / "file").write_text("")
    network = load(str(tiny_folders["gpt2"])).network
    files = weight_files(str(tiny_folders["gpt2"]), "")
    assert [path.name for path in files] == ["model.safetensors"]
    found = fingerprint_of(network, "x", "", files=files, noted=tmp_path / "file" / "notes")
    assert found == fingerprint_of(network, "x", "")
