"""The wheel, installed away from the checkout: the command `retouch`, and the app with every page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import ROOT, Server
from tests.browser.steps import goto, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


class Installed:
    """The wheel in an environment of its own, which sees the other packages of this one but not the checkout."""

    def __init__(self, room: Path) -> None:
        self.elsewhere = room / "elsewhere"
        self.elsewhere.mkdir()
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(room), str(ROOT))
        (self.wheel,) = room.glob("*.whl")
        self.python, self.retouch, self.packages = _environment(room / "venv", str(self.wheel))

    def __call__(self, *arguments: str) -> Any:
        """Run the command in a folder of a person's own, without the network; it must say nothing on stderr."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [self.retouch, *arguments], cwd=self.elsewhere, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


def _environment(folder: Path, *what: str) -> tuple[Path, Path, Path]:
    """Install something into a new environment that sees the packages of this one; return its Python, its command, its site-packages."""
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # A line of a .pth adds that folder alone: .pth files in it, as an editable install leaves, are not followed.
    (packages / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-build-isolation", *what)
    return python, folder / "bin" / "retouch", packages


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True, timeout=300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def server(installed: Installed) -> Iterator[Server]:
    """The installed app, started in a folder whose own settings and modules it must not take for its own."""
    folder = installed.elsewhere
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text('[theme.light]\nbackgroundColor = "#FF0000"\n')
    (folder / "workbench.py").write_text("raise RuntimeError('a module of the person was imported in our place')\n")
    running = Server(folder, [str(installed.retouch)], folder)
    yield running
    running.stop()


def test_site_packages_receives_the_package_and_nothing_else(installed: Installed) -> None:
    there = {path.name for path in installed.packages.iterdir()} - {"outer.pth"}
    assert "workbench" in there and all(name == "workbench" or name.endswith(".dist-info") for name in there)
    found = subprocess.run([installed.python, "-m", "pip", "show", "-f", "retouch"], capture_output=True, text=True, check=True).stdout
    files = found.split("Files:\n")[1].split()
    assert {file.split("/")[0] for file in files} == {"workbench", ".."} | {name for name in there if name.startswith("retouch")}
    assert [file for file in files if file.startswith("..")] == ["../../../bin/retouch"]


def test_an_editable_install_refers_to_the_checkout_and_copies_nothing(tmp_path: Path) -> None:
    _, _, packages = _environment(tmp_path / "venv", "-e", str(ROOT))
    assert {path.suffix for path in packages.iterdir()} == {".pth", ".dist-info"}
    (line,) = next(packages.glob("*retouch*.pth")).read_text().splitlines()
    assert Path(line) == ROOT


def test_all_that_the_app_reads_is_inside(installed: Installed) -> None:
    inside = {
        str(path.relative_to(installed.packages / "workbench"))
        for path in (installed.packages / "workbench").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    source = {str(path.relative_to(ROOT)) for top in ("pages", "assets") for path in (ROOT / top).rglob("*") if path.is_file()}
    source |= {"app.py", ".streamlit/config.toml"}
    package = {str(path.relative_to(ROOT / "workbench")) for path in (ROOT / "workbench").rglob("*") if path.is_file()}
    assert inside == {name for name in package | {f"_app/{name}" for name in source} if not name.endswith(".pyc")}


def test_the_command_lists_models_and_fits_an_edit_without_the_checkout(installed: Installed) -> None:
    assert all(model["is_present"] for model in installed("models", "--json")["models"][:2])
    told = installed("fit", "sea", "--data", "truthfulness", "--out", "runs/sea", "--workspace", "mine", "--json")
    assert told and (installed.elsewhere / "runs" / "sea" / "edit.json").is_file()
    installed("generate", "--edit", "runs/sea", "--prompt", "Question: What do bulls hate? Answer:", "--json")


def test_every_page_of_the_installed_app_opens_in_our_colours(installed: Installed, server: Server, visit: Any) -> None:
    page = visit()
    ready(page)
    titles = page.locator("[data-testid='stSidebarNavLink']").all_inner_texts()
    pages = {path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "__init__"}
    assert {title.split()[-1].lower() for title in titles} == pages - {"story"}, "an edit's own page is led to, not listed"
    for title in titles:
        goto(page, title.split()[-1])
        assert page.locator("[data-testid='stException']").count() == 0, title
        assert page.get_by_text("did not foresee").count() == 0, title
    colour = page.locator("[data-testid='stApp']").evaluate("element => getComputedStyle(element).backgroundColor")
    assert colour == "rgb(251, 250, 247)"
    log = (installed.elsewhere / "server.log").read_text()
    assert "Traceback" not in log and "arning" not in log, log
