"""No module, function or page is so long that nobody reads it whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE, FUNCTION, PAGE = 350, 60, 200
FILES = [
    *(ROOT / "workbench").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), *(ROOT / "tests").rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"), ROOT / "app.py",
]  # fmt: skip


def too_long(source: str, most: int) -> list[str]:
    """What is longer than it may be: the module, or functions by their names."""
    found = [f"{n} lines"] if (n := len(source.splitlines())) > most else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION:
            found.append(f"{node.name}: {n} lines")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_longer_than_it_may_be(path: Path) -> None:
    assert too_long(path.read_text(), PAGE if path.parent == ROOT / "pages" else MODULE) == []


def test_what_is_too_long_would_be_seen() -> None:
    body = "\n".join(f"    x{i} = {i}" for i in range(60))
    assert too_long(f"def f():\n{body}\n", 350) == ["f: 61 lines"] and too_long("x = 1\n" * 201, PAGE) == ["201 lines"]
