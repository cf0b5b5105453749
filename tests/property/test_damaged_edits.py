"""Whatever a folder's description says, loading it gives an edit or a named error; what loads is saved and loaded again as it is."""

from __future__ import annotations

import json
import random
import resource
import shutil
from pathlib import Path

import psutil
import pytest

from tests.fuzz import SAVED, damaged
from tests.shape_checks import unchecked
from workbench.edits.store import load_edit, save
from workbench.errors import RetouchError

FOLDERS = sorted(path.name for path in SAVED.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_description_is_a_named_error_or_a_whole_edit(name: str, tmp_path: Path) -> None:
    folder, draw = tmp_path / "edit", random.Random(name)
    shutil.copytree(SAVED / name, folder)
    told = json.loads((folder / "edit.json").read_text())
    refused = 0
    for trial in range(TRIALS):
        (folder / "edit.json").write_text(json.dumps(damaged(told, draw)))
        try:
            with unchecked():  # as a person's file meets it
                edit = load_edit(folder)
        except RetouchError:
            refused += 1
            continue
        with unchecked():
            again = load_edit(save(edit, tmp_path / f"again{trial}"))
        assert again.id == edit.id and again.dose == edit.dose
    assert refused > TRIALS / 4


@pytest.mark.parametrize("name", FOLDERS)
def test_no_number_of_a_description_takes_the_memory(name: str, tmp_path: Path) -> None:
    """A count of 2^70 parts was made part by part, until nothing was left."""
    folder = tmp_path / "edit"
    shutil.copytree(SAVED / name, folder)
    told, held = json.loads((folder / "edit.json").read_text()), resource.getrlimit(resource.RLIMIT_AS)
    facts, refused = told["header"]["facts"], set[str]()
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**31, held[1]))
    try:
        for fact in [key for key, value in facts.items() if type(value) is int]:
            harmed = {**told["header"], "facts": {**facts, fact: 2**70}}
            (folder / "edit.json").write_text(json.dumps({**told, "header": harmed}))
            try:
                with unchecked():
                    load_edit(folder)
            except RetouchError:
                refused.add(fact)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, held)
    counts = {"n_mlp"} | ({"n_layers"} if facts.get("mode") == "ablate" else set())
    assert counts & set(facts) <= refused, "what would be counted out is refused"


TRIALS = 40
