"""The browser's first page must not wait for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
