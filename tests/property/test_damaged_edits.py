"""Whatever a folder's description says, loading it gives an edit or a named error; what loads is saved and loaded again as it is."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

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


TRIALS = 40
