"""Edits on disk: exact, atomic, and nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import contrast_rows, words
from workbench.edits import store
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.errors import CorruptEdit, NewerSchema, RetouchError, StorageFailed, UnknownName
from workbench.methods import get
from workbench.models.base import LanguageModel
from workbench.operations import Gate


@pytest.fixture
def fitted(tiny_gpt2: LanguageModel) -> Edit:
    edit = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    site = next(iter(edit.operations())).site
    return edit.gated({site: Gate(torch.randn(tiny_gpt2.info.d_model), torch.tensor(0.1), "soft", 2.0)})


def test_a_saved_edit_comes_back_exactly_and_gives_bit_equal_logits(tiny_gpt2: LanguageModel, fitted: Edit, tmp_path: Path) -> None:
    again = store.load_edit(store.save(fitted.scaled(0.7), tmp_path / "edit"))
    assert (again.id, again.dose, type(again)) == (fitted.id, 0.7, type(fitted))
    assert all(torch.equal(tensor, again.all_tensors()[name]) for name, tensor in fitted.all_tensors().items())
    batch = tiny_gpt2.tokens(words(12, 13, 14))
    with torch.no_grad(), applied(tiny_gpt2, fitted.scaled(0.7)):
        wanted = tiny_gpt2.logits(batch)
    with torch.no_grad(), applied(tiny_gpt2, again):
        assert torch.equal(tiny_gpt2.logits(batch), wanted)
    assert (tmp_path / "edit" / "README.md").read_text().startswith("# mean_difference edit")


def change(folder: Path, alter: Any) -> None:
    told = json.loads((folder / "edit.json").read_text())
    alter(told)
    (folder / "edit.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("alter", "error", "says"),
    [
        (lambda t: t.update(extra=1), CorruptEdit, "unknown key 'extra'"),
        (lambda t: t.pop("gates"), CorruptEdit, "no 'gates'"),
        (lambda t: t.update(schema=99), NewerSchema, "schema 99"),
        (lambda t: t.update(kind="nobody"), UnknownName, "nobody"),
        (lambda t: t["header"].update(surprise=1), CorruptEdit, "surprise"),
        (lambda t: t["tensors"].pop(next(iter(t["tensors"]))), CorruptEdit, "one of edit.json"),
    ],
)
def test_an_altered_description_is_refused_by_name(fitted: Edit, tmp_path: Path, alter: Any, error: type[RetouchError], says: str) -> None:
    folder = store.save(fitted, tmp_path / "edit")
    change(folder, alter)
    with pytest.raises(error, match=says) as told:
        store.load_edit(folder)
    assert told.value.hint


def test_an_altered_tensor_and_a_pickle_are_refused(fitted: Edit, tmp_path: Path) -> None:
    folder = store.save(fitted, tmp_path / "edit")
    tensors = load_file(folder / "edit.safetensors")
    tensors["gate.resid_post@2.bias"] += 1
    save_file(tensors, folder / "edit.safetensors")
    with pytest.raises(CorruptEdit, match="altered"):
        store.load_edit(folder)
    (folder / "edit.safetensors").write_bytes(b"half a file")
    with pytest.raises(CorruptEdit, match="cannot be read"):
        store.load_edit(folder)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    torch.save(dict(tensors), pickled / "edit.pt")
    with pytest.raises(CorruptEdit, match="no edit.json") as told:
        store.load_edit(pickled)
    assert "Pickled" in told.value.hint


def test_a_failing_disk_leaves_the_old_edit_whole(fitted: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.save(fitted, tmp_path / "edit")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", full)
        with pytest.raises(StorageFailed, match="No space left"):
            store.save(fitted.scaled(0.5), folder, overwrite=True)
    assert store.load_edit(folder).id == fitted.id
    assert [p.name for p in tmp_path.iterdir()] == ["edit"]
    with pytest.raises(StorageFailed, match="exists already"):
        store.save(fitted, folder)
    store.save(fitted.scaled(0.5), folder, overwrite=True)
    assert store.load_edit(folder).dose == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["edit"]
