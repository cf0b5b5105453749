"""The README names every method, page, command, lens and error, and nothing that is gone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from workbench import errors
from workbench.errors import RetouchError
from workbench.methods import get, names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def table_after(heading: str, column: int = 0) -> list[str]:
    """Cells of one column, without backticks, of the table under a heading."""
    text = README.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [row.split("|")[column + 1].strip().strip("`*") for row in rows]


def error_names() -> set[str]:
    found = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, RetouchError)}
    return found - {"RetouchError", "UnknownName"}


def test_every_method_is_in_the_readme_and_the_reverse() -> None:
    assert sorted(table_after("Methods")) == sorted(names())


def test_the_folders_of_methods_are_those_of_the_readme_and_the_reverse() -> None:
    told = dict(zip(table_after("Methods"), table_after("Methods", 1)))
    assert {name: get(name).run.__module__.split(".")[2] for name in names()} == {name: where.strip("/") for name, where in told.items()}
    there = {path.parent.name for path in (ROOT / "workbench" / "methods").glob("*/__init__.py")} - {"shared"}
    assert there == {where.strip("/") for where in told.values() if where.endswith("/")}


@pytest.mark.parametrize("name", names())
def test_the_readme_names_each_methods_paper_or_origin(name: str) -> None:
    assert get(name).paper.split()[-1] in README


def test_every_page_is_in_the_readme_and_the_reverse() -> None:
    pages = {path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "__init__"}
    assert {name.lower() for name in table_after("Pages")} == pages


def test_every_error_has_a_row_and_the_reverse() -> None:
    assert set(table_after("When it says …")) == error_names()


def test_every_command_is_in_the_readme_and_the_reverse() -> None:
    from typer.main import get_command

    from workbench.cli.main import app

    known = set(get_command(app).commands)  # pyright: ignore
    told = set(re.findall(r"retouch ([a-z]+)", README))
    assert told == known


def test_the_command_and_the_module_are_the_same() -> None:
    from workbench import __main__
    from workbench.cli import main

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"retouch": "workbench.cli.main:app"} and __main__.app is main.app


def test_every_picture_of_the_readme_exists_and_none_lies_about_unused() -> None:
    told = set(re.findall(r"docs/screenshots/[a-z_-]+\.png", README))
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "screenshots").glob("*.png")}
    assert told == there


def test_no_dead_links_to_files() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_python_example_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path))
    code = README.split("```python\n", 1)[1].split("```", 1)[0]
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    told = capsys.readouterr().out
    assert "sea × 2" in told
    assert "mc1" in told
