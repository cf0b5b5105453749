"""Write docs/families.md: what works on every family, each cell found by doing it. `make families_table` runs it."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from benchmarks.marks import between
from tests import family_checks
from tests.families import NOT_BUILT, architectures
from workbench.methods import get

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
CELLS = Path(__file__).parent / "data" / "families.json"
_BEGIN, _END = "<!-- families: made by `make families_table` -->", "<!-- families: end -->"


@cache
def rows() -> dict[str, dict[str, str]]:
    """The cells of the table as they were made last, by model type."""
    return json.loads(CELLS.read_text())


def cell(found: str) -> str:
    """What a check found, without the folder of the tiny model."""
    words = [word.rpartition("/")[2] if word.startswith("/") else word for word in found.split(" ")]
    return " ".join(words)


def measured(model_type: str, known: dict[str, str] | None = None) -> dict[str, str]:
    """Do everything with a tiny model of one family, but for the checks that are known."""
    with tempfile.TemporaryDirectory() as folder:
        model = family_checks.opened(model_type, Path(folder) / model_type)
        if isinstance(model, str):
            return {"loads": cell(f"no: {model}")}
        told = {name: said for name, said in (known or {}).items() if name in family_checks.CHECKS}
        return {"loads": "yes"} | told | {name: cell(check(model)) for name, check in family_checks.CHECKS.items() if name not in told}


def table(found: dict[str, dict[str, str]]) -> str:
    """The table, and below it why not, each reason once."""
    names = {model_type: name for name, model_type in architectures().items()}
    lines = ["| Family | Stream edits | Head edits | Held to single | Experts | LoRA | Cache | Methods | Lenses |", "|---" * 9 + "|"]
    refused, reasons = list[str](), dict[str, list[str]]()
    for model_type, measured_cells in sorted(found.items()):
        cells = dict(sorted(measured_cells.items()))  # as the file keeps them, whether read from it or just measured
        title = f"`{names[model_type]}`"
        if cells["loads"] != "yes":
            refused.append(f"- {title}: {cells['loads'].removeprefix('no: ')}")
            continue
        for name, said in cells.items():
            if said.startswith("no: "):
                what = (
                    said.removeprefix("no: ").replace(f"{model_type} ({names[model_type]})", "the family").replace(model_type, "the family")
                )
                reasons.setdefault(f"{_title(name)}: {what}", []).append(title)
        shown = [cells[name] for name in ("stream", "heads", "scopes", "experts", "low rank")]
        shown += ["no" if cells["cache"].startswith("no") else "yes", _count(cells, "method "), _count(cells, "lens ")]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    why = [f"- {reason} ({', '.join(where)})" for reason, where in sorted(reasons.items())]
    built = [f"- `{name}`: {reason}." for name, reason in NOT_BUILT.items()]
    return "\n".join([*lines, "", "### Refused", "", *refused, "", "### Not tried", "", *built, "", "### Why not", "", *why])


def _title(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return get(rest).title if kind == "method" else rest.replace("_", " ") if kind == "lens" else name


def _count(cells: dict[str, str], kind: str) -> str:
    of = [said for name, said in cells.items() if name.startswith(kind)]
    lacking = [_title(name) for name, said in cells.items() if name.startswith(kind) and said != "yes"]
    return "all" if not lacking else "none" if len(lacking) == len(of) else "all but " + ", ".join(lacking)


def written(found: dict[str, dict[str, str]]) -> str:
    """The page with its table made anew."""
    return between(PAGE, _BEGIN, _END, table(found))


def main() -> None:
    """Measure every family, or those named, and write the cells and the page after each; `--new`: only checks that have no cell yet."""
    torch.set_num_threads(1)
    asked = [name for name in sys.argv[1:] if name != "--new"]
    found = dict(rows()) if CELLS.exists() else {}
    for name, model_type in architectures().items():
        if name in NOT_BUILT or (asked and model_type not in asked):
            continue
        if "--new" in sys.argv and found.get(model_type, {}).get("loads", "yes") != "yes":
            continue
        found[model_type] = measured(model_type, found.get(model_type) if "--new" in sys.argv else None)
        sys.stdout.write(f"{model_type}: {found[model_type]['loads']}\n")
        CELLS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(written(found))


if __name__ == "__main__":
    main()
