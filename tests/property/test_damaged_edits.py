"""Whatever a folder's description says, loading it gives an edit or a named error; what loads is saved and loaded again as it is."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.shape_checks import unchecked
from workbench.edits.store import load_edit, save
from workbench.errors import RetouchError

SAVED = Path(__file__).parents[1] / "data" / "saved_edits"
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "resid_post@0",
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
)
FOLDERS = sorted(path.name for path in SAVED.iterdir() if path.is_dir())


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value, with a key in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in ((value, key), *places(inner))]


def damaged(told: Any, draw: random.Random) -> Any:
    """A description with one to three places replaced, removed or added to."""
    told = copy.deepcopy(told)
    for _ in range(draw.randint(1, 3)):
        found = places(told)
        if not found:
            return copy.deepcopy(draw.choice(JUNK))
        inside, key = draw.choice(found)
        how = draw.random()
        if how < 0.7:
            inside[key] = copy.deepcopy(draw.choice(JUNK))
        elif how < 0.9 or isinstance(inside, list):
            del inside[key]
        else:
            inside[f"{key}x"] = copy.deepcopy(draw.choice(JUNK))
    return told


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
