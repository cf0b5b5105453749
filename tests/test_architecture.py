"""The house stands as DESIGN draws it: imports go down the rows, and each third-party package has its few importers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"

ROWS: dict[str, int] = {
    "errors": 0, "shapes": 0, "progress": 0, "resources": 0,
    "sites": 1, "whole": 1, "knobs": 1, "operations": 1, "sampling": 1, "conversations": 1, "memo": 1, "place": 1,
    "numerics": 2, "search": 2,
    "models": 3, "data": 3,
    "record": 4, "decode": 4, "score": 4, "forks": 4, "edits": 4,
    "methods": 5,
    "lenses": 6, "evaluate": 6,
    "figures": 7, "lessons": 7,
    "settings": 8, "workspace": 8, "session": 8, "opening": 8, "cli": 8, "__main__": 8,
    "world": 9,
}  # fmt: skip

# Within a row: which neighbours a package or module may use. Whoever is not named here uses none of them.
NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "operations": ("sites",),
    "memo": ("sites",),
    "decode": ("edits",),
    "forks": ("edits",),
    "score": ("edits", "forks"),
    "workspace": ("settings",),
    "session": ("settings", "workspace"),
    "opening": ("session", "workspace"),
    "cli": ("opening", "session", "workspace"),
    "__main__": ("cli",),
}

# Which folders of pages/_ui a page or a folder uses beside kit and itself.
GUESTS: dict[str, tuple[str, ...]] = {
    "pages/edit": ("demonstrations",),
    "pages/spectra": ("edit",),
    "pages/start": ("edit", "inspect", "learn", "library"),
    "pages/_ui/compare": ("demonstrations",),
    "pages/_ui/edit": ("evaluate",),
    "pages/_ui/library": ("compare", "edit", "evaluate"),
    "pages/_ui/story": ("edit", "evaluate"),
    "pages/_ui/evaluate": ("demonstrations",),
}

# package → the places under workbench/ that alone may import it
ALONE: dict[str, tuple[str, ...]] = {
    "transformer_lens": ("models/bridge.py", "lenses/", "world/"),
    "botorch": ("search/",),
    "gpytorch": ("search/",),
    "datasets": ("data/",),
    "safetensors": ("edits/", "models/", "world/"),
    "sklearn": ("numerics/",),
    "plotly": ("figures/",),
    "sqlite3": ("workspace/",),
    "typer": ("__main__.py", "cli/", "world/__main__.py"),
    "streamlit": (),
}


def imports(path: Path) -> set[str]:
    """Absolute module names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def row_of(module: str) -> int | None:
    parts = module.split(".")
    return ROWS.get(parts[1]) if parts[0] == "workbench" and len(parts) > 1 else None


def violations(path: Path, relative: str, names: set[str]) -> list[str]:
    mine = ROWS[relative.split("/")[0].removesuffix(".py")]
    own = relative.split("/")[0].removesuffix(".py")
    wrong = [
        f"{relative} (row {mine}) imports {name} (row {row_of(name)})" for name in names if (row := row_of(name)) is not None and row > mine
    ]
    wrong += [
        f"{relative} imports {name} of its own row, which NEIGHBOURS does not allow"
        for name in names
        if row_of(name) == mine and (top := name.split(".")[1]) != own and top not in NEIGHBOURS.get(own, ())
    ]
    wrong += [
        f"{relative} imports {name}, which only {ALONE[top] or 'pages'} may"
        for name in names
        if (top := name.split(".")[0]) in ALONE and not relative.startswith(tuple(ALONE[top]) or ("\0",))
    ]
    if own != "world":
        wrong += [f"{relative} imports the world" for name in names if name.startswith("workbench.world")]
    return wrong


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_at_or_below_its_own(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    assert violations(path, relative, imports(path)) == []


def test_the_rule_catches_a_wrong_import() -> None:
    assert violations(PACKAGE / "evaluate/x.py", "evaluate/x.py", {"workbench.lenses.heads"})
    assert violations(PACKAGE / "edits/x.py", "edits/x.py", {"workbench.decode"}) and violations(
        PACKAGE / "x", "workspace/x.py", {"workbench.session"}
    )
    assert violations(PACKAGE / "knobs.py", "knobs.py", {"workbench.methods.sea.fit"})
    assert violations(PACKAGE / "session.py", "session.py", {"streamlit"})
    assert violations(PACKAGE / "methods/x.py", "methods/x.py", {"transformer_lens.model_bridge"})


def test_no_module_of_the_package_imports_streamlit() -> None:
    guilty = [path for path in FILES if any(name.split(".")[0] == "streamlit" for name in imports(path))]
    assert guilty == []


def test_pages_import_only_streamlit_session_figures_and_their_own_parts() -> None:
    allowed = ("workbench.session", "workbench.figures", "workbench.errors", "workbench.knobs", "pages._ui", "streamlit")
    # What forms fill; none of them imports torch.
    allowed += ("workbench.settings", "workbench.sampling", "workbench.edits.lane", "workbench.data.demonstrations")
    for page in sorted((ROOT / "pages").glob("*.py")):
        for name in imports(page):
            if name.split(".")[0] in ("workbench", "pages", "torch", "transformers", "transformer_lens"):
                assert name in ("pages", "workbench") or name.startswith(allowed), f"{page.name} imports {name}"


def guests(path: Path) -> set[str]:
    """The folders of pages/_ui that a file imports beside kit and its own."""
    own = path.relative_to(ROOT / "pages").parts
    home = {own[1]} if own[0] == "_ui" else {path.stem}
    found = {name.split(".")[2] for name in imports(path) if name.startswith("pages._ui.") and name.count(".") >= 2}
    return found - home - {"kit"}


def test_a_folder_of_pages_imports_kit_and_itself_or_what_is_written_down_and_kit_imports_no_folder() -> None:
    used: dict[str, set[str]] = {}
    for path in sorted((ROOT / "pages").rglob("*.py")):
        parts = path.relative_to(ROOT / "pages").parts
        if parts[-1] != "__init__.py" or len(parts) > 2:
            who = f"pages/_ui/{parts[1]}" if parts[0] == "_ui" else f"pages/{path.stem}"
            used.setdefault(who, set()).update(guests(path))
    assert used["pages/_ui/kit"] == set()
    assert {who: tuple(sorted(found)) for who, found in used.items() if found} == GUESTS


def test_what_is_written_down_within_rows_is_used() -> None:
    used: dict[str, set[str]] = {}
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        mine = {name.split(".")[1] for name in imports(path) if row_of(name) == ROWS[own]} - {own}
        used.setdefault(own, set()).update(mine)
    assert {own: tuple(sorted(found)) for own, found in used.items() if found} == NEIGHBOURS


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of modules, each importing the next; empty if there is none."""

    def onward(path: list[str]) -> list[str]:
        for name in sorted(graph.get(path[-1], ())):
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done and (found := onward([*path, name])):
                return found
        done.add(path[-1])
        return []

    done: set[str] = set()
    return next((found for name in sorted(graph) if name not in done and (found := onward([name]))), [])


@pytest.mark.parametrize("top", ["workbench", "pages", "benchmarks"])
def test_no_modules_import_one_another_in_a_circle(top: str) -> None:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / top).rglob("*.py")}
    graph = {name: {other for other in imports(path) if other in files and other != name} for name, path in files.items()}
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_top_level_is_the_one_that_was_fixed() -> None:
    fixed = {"app.py", "pages", "workbench", "assets", "tests", "requirements.txt", "README.md"}
    assert fixed <= {p.name for p in ROOT.iterdir()}


def test_the_picture_of_the_architecture_shows_the_rows_as_they_are() -> None:
    picture = (ROOT / "docs" / "ARCHITECTURE.md").read_text().split("```mermaid", 1)[1].split("```", 1)[0]
    drawn = {int(row): set(names.split("<br/>")[0].split(" · ")) for row, names in re.findall(r'r(\d)\["([^"]+)"\]', picture)}
    rows = {row: {name for name, at in ROWS.items() if at == row} - {"__main__"} for row in range(9)}
    assert drawn == rows


# ── nobody outside a method's own folder names a method ────────────────────────────────────────────────────────────────────────────────

METHODS = PACKAGE / "methods"
SHARED = ("registry", "choice", "shared")
OWN = {path.stem for path in METHODS.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__", *SHARED}

# A word that is also something else: file → word → what it is there.
ALSO: dict[str, dict[str, str]] = {
    "workbench/lenses/registry.py": {"senses": "the lens that shows a word's senses"},
    "workbench/methods/shared/sense_edit.py": {"senses": "the kind of edit, as files carry it"},
    "workbench/world/structure.py": {"are": "the verb"},
    "pages/senses.py": {"senses": "the key of the empty page"},
    "pages/_ui/senses/panels.py": {"senses": "the lens, and the table of senses that moved"},
}


def outside() -> list[Path]:
    """Every module that may not name a method: all but the methods' own and the one list of imports."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"]
    return [path for path in files if not (path.is_relative_to(METHODS) and path.relative_to(METHODS).parts[0].split(".")[0] not in SHARED)]


def named_in(source: str, names: set[str]) -> set[str]:
    """Methods that a module names: as a text, as an import of a method's own modules, or as an attribute of `workbench.methods`."""
    tree = ast.parse(source)
    found: set[str] = set()
    aliases = {"workbench.methods"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {item.asname for item in node.names if item.name == "workbench.methods" and item.asname}
            found |= {item.name for item in node.names if item.name.startswith(tuple(f"workbench.methods.{own}" for own in OWN))}
        elif isinstance(node, ast.ImportFrom) and node.module == "workbench":
            aliases |= {item.asname or item.name for item in node.names if item.name == "methods"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench.methods"):
            whole = [f"{node.module}.{item.name}".split(".") for item in node.names]
            found |= {".".join(parts) for parts in whole if parts[2] in OWN}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
            found.add(node.value)
    found |= {
        f"{ast.unparse(node.value)}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in OWN and ast.unparse(node.value) in aliases
    }
    return found


@pytest.mark.parametrize("path", outside(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_names_a_method_that_is_not_its_own(path: Path) -> None:
    from workbench.methods import names

    told = named_in(path.read_text(), set(names()))
    assert told - set(ALSO.get(str(path.relative_to(ROOT)), {})) == set()


def test_every_exception_is_still_needed() -> None:
    for name, words in ALSO.items():
        assert set(words) <= named_in((ROOT / name).read_text(), set(words)), name


@pytest.mark.parametrize(
    "planted",
    [
        'CHOSEN = "sea"',
        'def f(name):\n    return {"mean_difference": 1}.get(name)',
        "from workbench.methods.sea.fit import fit",
        "from workbench.methods import tarot as turning",
        "import workbench.methods.hpr.report",
        "from workbench import methods\nmethods.angular.fit",
        "import workbench.methods\nworkbench.methods.canonical",
    ],
)
def test_a_planted_name_is_found(planted: str) -> None:
    from workbench.methods import names

    assert named_in(planted, set(names()))
    assert not named_in('"""The method sea."""\nfrom workbench.methods.shared.gating import gated\nmodel.senses(ids)', set(names()))


OF_METHODS = sorted(path for own in OWN for path in (METHODS / f"{own}.py", *METHODS.glob(f"{own}/**/*.py")) if path.exists())


@pytest.mark.parametrize("path", OF_METHODS, ids=lambda p: str(p.relative_to(METHODS)))
def test_a_method_takes_from_its_own_folder_the_registry_and_what_is_shared(path: Path) -> None:
    assert foreign(path.relative_to(METHODS).parts[0].removesuffix(".py"), imports(path)) == []


def foreign(own: str, modules: set[str]) -> list[str]:
    """Modules of `workbench.methods` that a method's folder may not import."""
    parts = [name.split(".") for name in modules if name.startswith("workbench.methods.")]
    return [".".join(found) for found in parts if found[2] not in (own, "registry", "shared")]


def test_shared_modules_know_no_method_and_a_wrong_import_is_found() -> None:
    for path in (METHODS / "shared").glob("*.py"):
        assert foreign("shared", imports(path)) == [], path.name
    assert foreign("sea", {"workbench.methods.hpr.rows"}) == ["workbench.methods.hpr.rows"]
    assert foreign("sea", {"workbench.methods.choice"}) and not foreign("sea", {"workbench.methods.sea.edit"})


# A public name stands in one module. These stand in several because each module of a kind has its own: what a method's folder holds, what a
# figure's module draws, and a command that is called as what it calls.
ROLES: dict[str, str] = {
    "methods/": "OFFICIAL PRESETS draws fit report steps tries without",
    "evaluate/protocol/compat.py": "OFFICIAL",
    "figures/": "pictures",
    "cli/": "app compare equal_damage export fit generate influence locate off_target watch",
    "world/__main__.py": "app card",
}


def public_names(path: Path) -> set[str]:
    """Functions, classes and constants that a module defines, without leading underscore."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found |= {item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_a_public_name_stands_in_one_module() -> None:
    where: dict[str, set[str]] = {}
    for path in FILES:
        relative = str(path.relative_to(PACKAGE))
        roles = {name for place, names in ROLES.items() if relative.startswith(place) for name in names.split()}
        for name in public_names(path) - roles:
            where.setdefault(name, set()).add(relative)
    assert {name: sorted(places) for name, places in where.items() if len(places) > 1} == {}
