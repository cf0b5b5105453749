"""Tensors begin where the processor likes it, wherever a file puts them: the same numbers give the same sums."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import build_folder, contrast_rows, words
from tests.tiny_backpack import tiny_backpack
from workbench import methods
from workbench.edits import store
from workbench.edits.engine import applied
from workbench.models.backpack.network import BackpackNetwork
from workbench.models.catalog import load
from workbench.models.tensor_files import ALIGNMENT, read_tensors

WHERE = 44  # bytes past a multiple of 64: where a file of another header length has put its tensors


def misplace(path: Path) -> None:
    """Move the tensors of a safetensors file to an address that is not aligned, by spaces after its header."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + length])).encode()
    header += b" " * ((WHERE - 8 - len(header)) % ALIGNMENT)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    assert any(tensor.data_ptr() % ALIGNMENT for tensor in load_file(path).values()), "the file is mapped as it lies"


def are_aligned(*tensors: Any) -> bool:
    return all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in tensors)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_an_edit_and_its_gates_are_aligned_and_give_bit_equal_logits(tiny_gpt2: Any, tmp_path: Path, kind: str) -> None:
    chosen, rows = methods.get("mean_difference"), contrast_rows(40)
    edit = chosen.fit(tiny_gpt2, rows, chosen.configure({"gate": kind})).edit
    folder = store.save(edit, tmp_path / "edit")
    misplace(folder / "edit.safetensors")
    again = store.load_edit(folder)
    assert again.id == edit.id and are_aligned(*again.all_tensors().values())
    batch = tiny_gpt2.tokens(rows.column("prompt")[:3])
    with torch.no_grad(), applied(tiny_gpt2, edit):
        wanted = tiny_gpt2.logits(batch)
    with torch.no_grad(), applied(tiny_gpt2, again):
        assert torch.equal(tiny_gpt2.logits(batch), wanted)


def test_a_backpack_is_aligned_and_gives_bit_equal_logits(tmp_path: Path) -> None:
    network, folder = tiny_backpack(), tmp_path / "backpack"
    network.save_folder(folder)
    misplace(folder / "model.safetensors")
    loaded, ids = BackpackNetwork.load_folder(folder), torch.tensor([[1, 2, 3, 1]])
    assert are_aligned(*loaded.parameters()) and torch.equal(loaded(ids), network(ids))


def test_a_hugging_face_model_is_aligned_and_gives_bit_equal_logits(tmp_path: Path) -> None:
    folder = build_folder("llama", tmp_path / "llama")
    model = load(str(folder))
    with torch.no_grad():
        wanted = model.logits(model.tokens(words(3, 7, 12)))
        misplace(folder / "model.safetensors")
        again = load(str(folder))
        assert are_aligned(*again.network.parameters(), *again.network.buffers())
        assert torch.equal(again.logits(again.tokens(words(3, 7, 12))), wanted)


def test_a_file_is_read_into_memory_of_its_own(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.arange(5.0), "b": torch.arange(3)}, tmp_path / "x.safetensors")
    misplace(tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors")
    assert are_aligned(*found.values()) and torch.equal(found["a"], torch.arange(5.0)) and torch.equal(found["b"], torch.arange(3))
