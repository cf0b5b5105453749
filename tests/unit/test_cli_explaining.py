"""The commands that say why an edit does what it does, off its target and over a long text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import taught_rows, words
from workbench.cli.main import app
from workbench.session import Session


def test_off_target_and_watch_print_tables_and_json(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, path = Session(tiny_gpt2, tmp_path / "home"), tmp_path / "taught.jsonl"
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    path.write_text("".join(f"{row.line}\n" for row in taught_rows(60)))
    edit, line = session.fit("mean_difference", str(path)).edit.id, CliRunner()
    stacked = line.invoke(app, ["off-target", "--data", str(path), "--edit", edit, "--edit", f"{edit}:2"])
    assert stacked.exit_code == 0 and "beyond a random edit" in stacked.output and "Stacks:" in stacked.output
    told = json.loads(line.invoke(app, ["off-target", "--data", str(path), "--edit", edit, "--protect", str(path), "--json"]).stdout)
    assert len(told["cells"]) == 2 and not told["stacks"]
    assert line.invoke(app, ["off-target", "--data", str(path)]).exit_code == 2
    seen = line.invoke(app, ["watch", "--edit", edit, "--prompt", words(11, 12)])
    assert seen.exit_code == 0 and "base: " in seen.output and "after" in seen.output
    rows = json.loads(line.invoke(app, ["watch", "--edit", edit, "--prompt", words(11, 12), "--json"]).stdout)["rows"]
    assert [row["lane"] for row in rows][0] == "base" and len(rows) == 2
