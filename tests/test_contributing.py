"""The recipes of CONTRIBUTING.md, each tried as written in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"A new\sfile,\s`([^`]+)`:\n\n```\w+\n(.*?)```", TEXT, re.DOTALL))
LINES = re.findall(r"One line in `([^`]+)`, (in `\w+`|at the top of the list)[^`]*:\n\n```\n(.*?)```", TEXT, re.DOTALL)
RAN = re.findall(r"^    retouch (.+)$", TEXT, re.MULTILINE)
TOLD = re.findall(r"^    \.venv/bin/python -m pytest (.+)$", TEXT, re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with every recipe followed."""
    there = tmp_path_factory.mktemp("followed") / "retouch"
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns("__pycache__", ".*", "runs", "dist"))
    for name, text in FILES.items():
        assert not (there / name).exists(), f"{name} exists: the recipe needs another example"
        (there / name).write_text(text)
    for name, where, line in LINES:
        old = (there / name).read_text()
        opening = r"\n(?=from )" if "top" in where else rf"^{where.split('`')[1]}\b[^\n]*[({{\[]\n"
        new = re.sub(f"({opening})", lambda found, line=line: found[1] + line, old, count=1, flags=re.MULTILINE)
        assert new != old, f"{name}: nothing to add to {where}"
        (there / name).write_text(new)
    return there


def run(there: Path, *arguments: str) -> str:
    environment = {**os.environ, "RETOUCH_HOME": str(there.parent / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=there, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_recipes_are_found() -> None:
    assert {name.split("/")[0] for name in FILES} == {"workbench", "pages", "assets"} and len(LINES) == 3 and RAN and TOLD


@pytest.mark.parametrize("command", RAN)
def test_a_command_of_a_recipe_answers_on_the_embedded_model(copy: Path, command: str) -> None:
    arguments = re.findall(r'"([^"]*)"|(\S+)', command)
    assert run(copy, "-m", "workbench", *(quoted or plain for quoted, plain in arguments))


def test_followed_recipes_pass_the_rules_of_the_house_and_the_tests_that_find_them(copy: Path) -> None:
    run(copy, "-m", "ruff", "check", *FILES.keys() - {name for name in FILES if name.endswith(".yaml")})
    run(copy, "-m", "pytest", "-n", "0", "tests/test_architecture.py", "-k", "row or pages")
    run(copy, "-m", "pytest", "-n", "0", "tests/app/test_course.py", "-k", "look or read or word")
    run(copy, "-m", "pytest", "-n", "0", "tests/contract/test_methods.py", "-k", "damping")


def test_the_page_reads_a_text_when_asked(copy: Path) -> None:
    """In a process of its own: this one has imported the pages of the checkout."""
    code = """
import time
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=120).run()
from pages._ui.kit import backend
backend.backend().thread.join()
app.switch_page("pages/surprise.py").run()
assert not app.exception and "will stand here" in " ".join(item.value for item in app.markdown)
app.button(key="surprise-run").click().run()
for _ in range(100):
    if not any(button.key == "surprise-cancel" for button in app.button):
        break
    time.sleep(0.2)
    app.run()
assert not app.exception and any("surprise" in str(item.proto.id) for item in app.get("plotly_chart"))
assert not [item.value for item in app.text if "did not foresee" in item.value]
"""
    run(copy, "-c", code)


@pytest.mark.parametrize("line", TOLD)
def test_the_tests_that_it_names_exist(line: str) -> None:
    files = [part for part in line.split() if part.startswith("tests/")]
    assert all((ROOT / file).exists() for file in files)


def test_a_lesson_of_the_recipe_is_one() -> None:
    from workbench.lessons.reading import read_lesson

    (lesson,) = (read_lesson(text, name) for name, text in FILES.items() if name.endswith(".yaml"))
    assert lesson.steps[0].question is not None
