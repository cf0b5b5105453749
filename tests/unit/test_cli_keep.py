"""The command line makes a lane's dose and place a part of an edit."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_cli import PROMPT, Line
from tests.unit.test_cli import fitted as fitted
from tests.unit.test_cli import line as line
from tests.unit.test_cli import pairs as pairs


def test_keep_makes_dose_and_place_a_part_of_the_edit(line: Line, fitted: str, tmp_path: Path) -> None:
    told = line.json("keep-edit", f'{fitted}:2@after "w7"', "--out", str(tmp_path / "kept"))
    assert (told["dose"], told["place"]) == (2.0, 'after "w7"') and (tmp_path / "kept" / "edit.json").exists()
    assert "nowhere to keep it" in line.refused("keep-edit", fitted)[0]
    assert "after what" in line.refused("generate", "--prompt", PROMPT, "--edit", f"{fitted}@after")[0]
