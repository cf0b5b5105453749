"""The README names every method, page, command, lens and error, and nothing that is gone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import workbench
from workbench import errors
from workbench.errors import RetouchError
from workbench.methods import get, names
from workbench.resources import MODELS
from workbench.world.card import written

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
    assert {name: get(name).run.__module__.split(".")[2] for name in names()} == {
        name: where.strip("/").removesuffix(".py") for name, where in told.items()
    }
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
    told = set(re.findall(r"retouch ([a-z]+(?:-[a-z]+)*)", README))
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


PAPERS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
METHOD_PAPERS = sorted((ROOT / "docs" / "methods").glob("*.md"))
CODE = [path for top in ("workbench", "pages", "tests", "benchmarks") for path in sorted((ROOT / top).rglob("*.py"))] + [ROOT / "app.py"]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_no_dead_links_to_files(paper: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", paper.read_text()):
        assert (paper.parent / target).exists(), target


def references(text: str) -> set[tuple[str, str]]:
    """What a source refers to: (document of docs/methods, section); the sections stand in the sentence that names the document."""
    flat = re.sub(r"\s*\n\s*#?\s*", " ", text)
    found: set[tuple[str, str]] = set()
    for name, rest in re.findall(r"docs/methods/(\w+)\.md((?:(?!docs/methods/|\. |\"\"\").)*)", flat):
        found |= {(name, section) for section in re.findall(r"§(\d+(?:\.\d+)*)", rest)} or {(name, "")}
    return found


def headings(name: str) -> set[str]:
    """Numbers of the sections of a document; "" stands for the whole of it. Empty if there is no such document."""
    paper = ROOT / "docs" / "methods" / f"{name}.md"
    return {"", *re.findall(r"^#+ (\d+(?:\.\d+)*)\b", paper.read_text(), re.MULTILINE)} if paper.exists() else set()


def test_every_reference_to_a_method_document_opens() -> None:
    found = {(path, *where) for path in CODE for where in references(path.read_text())}
    assert len(found) > 50
    assert [(str(path), name, section) for path, name, section in sorted(found) if section not in headings(name)] == []


def test_a_reference_that_does_not_open_would_be_seen() -> None:
    place = "docs/methods/" + "sea.md"
    assert references(f"Ref: {place} §2.1,\n    §99. Law 7: §3") == {("sea", "2.1"), ("sea", "99")}
    assert references(f"# {place} has it") == {("sea", "")}
    assert "2.1" in headings("sea") and "99" not in headings("sea") and headings("nothing") == set()


def named_tests(text: str) -> list[tuple[str, str]]:
    """Tests that a document names, as (file, test): `file.py::test`, and `::test` for one in the file named before it."""
    found: list[tuple[str, str]] = []
    for file, test in re.findall(r"`(?:[\w/]*?(test_\w+\.py))?::(test_\w+)`", text):
        found.append((file or found[-1][0], test))
    return found


@pytest.mark.parametrize("paper", METHOD_PAPERS, ids=lambda path: path.name)
def test_every_test_that_a_method_document_names_exists(paper: Path) -> None:
    known = {path.name: path.read_text() for path in CODE if path.name.startswith("test_")}
    found = named_tests(paper.read_text())
    assert found or paper.name == "README.md"
    assert [(file, test) for file, test in found if f"def {test}(" not in known.get(file, "")] == []
    assert named_tests("`theory/test_a.py::test_b`, `::test_c`") == [("test_a.py", "test_b"), ("test_a.py", "test_c")]


def test_nothing_refers_to_documents_that_are_not_here() -> None:
    gone = "spec" + "s/"
    assert [str(path) for path in (*CODE, *PAPERS) if gone in path.read_text()] == []


def test_the_python_example_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path))
    code = README.split("```python\n", 1)[1].split("```", 1)[0]
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    told = capsys.readouterr().out
    assert "sea × 2" in told
    assert "mc1" in told


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in MODELS.glob("*/card.json")))
def test_a_models_card_is_what_the_script_writes_of_its_numbers_and_names_the_licence(folder: str) -> None:
    card = (MODELS / folder / "README.md").read_text()
    assert card == written(json.loads((MODELS / folder / "card.json").read_text()))
    assert "\nlicense: apache-2.0\n" in card.split("\n---\n")[0]


def test_the_licence_is_apache_2_and_is_named_wherever_the_package_says_what_it_is() -> None:
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_the_changelog_tells_of_this_version_first() -> None:
    assert re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == workbench.__version__


def test_every_target_of_make_is_told_and_the_reverse() -> None:
    phony = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    told = {name for paper in PAPERS for name in re.findall(r"(?:^    |`)make\s(\w+)", paper.read_text(), re.MULTILINE)}
    assert told == set(phony) - {"chromium"}
