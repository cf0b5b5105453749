"""The browser's first page must not wait for torch, and says what keeps it from opening."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import importlib, sys
from pathlib import Path
for path in sorted(Path("pages/_ui").rglob("*.py")):
    importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
print(sorted(set(sys.modules) & {"torch", "transformers", "transformer_lens", "workbench.session"}))
"""


def test_the_parts_of_pages_import_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_check_would_see_torch() -> None:
    done = subprocess.run([sys.executable, "-c", "import torch" + CODE], cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    assert "torch" in done.stdout


def test_a_workspace_of_a_newer_version_is_named_where_pages_stand(app: Any, tmp_path: Path) -> None:
    """It was an empty page once: the state of lanes is read from the workspace before any page is drawn."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    with sqlite3.connect(home / "retouch.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    test = app()
    for _ in range(2):
        assert any("has schema 99" in item.value for item in test.text) and not test.exception
        test = test.run()
