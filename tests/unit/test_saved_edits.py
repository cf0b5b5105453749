"""Edits that an earlier version saved load with their id and give the logits that they gave then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.edits import store
from workbench.edits.engine import applied
from workbench.models.base import LanguageModel
from workbench.models.catalog import load

SAVED = Path(__file__).parents[1] / "data" / "saved_edits"
# What version 0.1.0 made of each: ids, and logits of some tokens after the last token of each row.
EXPECTED: dict[str, dict[str, Any]] = json.loads((SAVED / "expected.json").read_text())
CLOSE = 1e-5  # logits on another processor, in float32


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    return {name: load(name) for name in {told["model"] for told in EXPECTED.values()}}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_edit_of_an_earlier_version_keeps_its_id_and_logits(name: str, models: dict[str, LanguageModel]) -> None:
    told, edit = EXPECTED[name], store.load_edit(SAVED / name)
    assert edit.id == told["id"]
    model = models[told["model"]]
    batch, wanted = model.tokens(told["prompts"], told["answers"]), torch.tensor(told["logits"])
    with torch.no_grad():
        base = model.logits(batch)[:, -1, told["tokens"]]
        with applied(model, edit):
            found = model.logits(batch)[:, -1, told["tokens"]]
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, atol=CLOSE * max(1.0, scale), rtol=0)
    assert float((found - base).abs().max()) > 0.04, "the edit moves these logits, so equal ones say something"


def test_every_saved_folder_is_expected_and_kinds_load_in_a_process_that_imported_nothing_else() -> None:
    folders = sorted(path.name for path in SAVED.iterdir() if path.is_dir())
    assert folders == sorted(EXPECTED)
    program = "import sys; from workbench.edits.store import load_edit; print(*(load_edit(folder).id for folder in sys.argv[1:]))"
    command = [sys.executable, "-c", program, *(str(SAVED / name) for name in folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SAVED.parents[2])
    assert done.stdout.split() == [EXPECTED[name]["id"] for name in folders]
