"""What is imported is declared and what is declared is imported; the lock holds exact versions within the bounds."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import imports

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Pytest puts tests/ on the path: tests call the modules that lie there without a package.
OURS = {"workbench", "pages", "app", "tests", "benchmarks", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
# What the project was asked to be made of.
ASKED = ("torch", "transformer-lens", "streamlit", "plotly", "numpy", "scikit-learn", "botorch", "datasets")
# Used by name, never imported: plugins of pytest, the checker that jaxtyping calls, programs, the build's own needs.
NOT_IMPORTED = {"pytest-timeout", "pytest-xdist", "beartype", "ruff", "pyright", "hatchling", "hatch-requirements-txt"}


def entries(file: str) -> list[Requirement]:
    """The requirements of a file, without comments."""
    lines = (ROOT / file).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


RUN = entries("requirements.txt")
DEV = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["dev"]]
LOCK = {canonicalize_name(item.name): item for item in entries("requirements.lock")}


def names(items: list[Requirement]) -> set[str]:
    return {canonicalize_name(item.name) for item in items}


@cache
def distributions() -> dict[str, str]:
    """Top-level package → the distribution that brings it."""
    return {top: found[0] for top, found in packages_distributions().items()}


@cache
def imported(*places: str) -> set[str]:
    """Distributions whose packages are imported under some folders or in some files, anywhere in them."""
    files = [file for place in places for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))]
    tops = {name.split(".")[0] for file in files for name in imports(file)} - set(sys.stdlib_module_names) - OURS
    return {canonicalize_name(distributions().get(top, top)) for top in tops}


def version(item: Requirement) -> str:
    (one,) = item.specifier
    return one.version


def test_what_the_product_imports_is_declared_and_nothing_else_is() -> None:
    assert imported("workbench", "pages", "app.py") == names(RUN)


def test_what_tests_and_benchmarks_import_is_declared_too_and_nothing_else_is() -> None:
    found = imported("tests", "benchmarks") - names(RUN)
    assert found <= names(DEV)
    assert names(DEV) - found <= NOT_IMPORTED


@pytest.mark.parametrize("name", ASKED)
def test_each_package_that_the_project_was_asked_to_use_is_used(name: str) -> None:
    assert name in names(RUN) and name in imported("workbench", "pages")


def test_an_import_that_nobody_declared_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("def late():\n    import yaml\n    from packaging.version import Version\n")
    assert imported(str(tmp_path)) == {"pyyaml", "packaging"}


@pytest.mark.parametrize("item", [*RUN, *DEV], ids=lambda item: item.name)
def test_a_bound_allows_later_patches_of_the_locked_version_and_nothing_wider(item: Requirement) -> None:
    (bound,) = item.specifier
    assert bound.operator == "==" or (bound.operator == "~=" and len(bound.version.split(".")) == 3)
    locked = version(LOCK[canonicalize_name(item.name)])
    assert item.specifier.contains(locked)


def test_the_lock_is_exact_and_names_each_package_once() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!]+", line)] == []
    assert len(LOCK) == len(lines)


def test_the_wheel_can_be_built_with_what_the_extra_dev_installs() -> None:
    assert set(PROJECT["build-system"]["requires"]) <= set(PROJECT["project"]["optional-dependencies"]["dev"])


def test_what_a_locked_package_needs_is_locked_too() -> None:
    """But for torch's own: its wheels differ by processor and accelerator, and each pins what it needs exactly."""
    missing = {
        (name, need.name)
        for name in LOCK.keys() - {"torch"}
        for need in map(Requirement, requires(name) or [])
        if (need.marker is None or need.marker.evaluate({"extra": ""})) and canonicalize_name(need.name) not in LOCK
    }
    assert missing == set()
