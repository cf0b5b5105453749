"""The command about demonstration sets: list them, look into one, a file, a dataset or a paste; and keep, rename, copy, merge, delete."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.groups import Home, Json, grouped
from workbench.cli.options import named
from workbench.cli.printing import answer, table
from workbench.errors import BadDemonstrations

if TYPE_CHECKING:
    from workbench.data.sources import Imported
    from workbench.workspace.shelf import Shelf

_HUB = "hf:"
_WAYS = "new NAME; rename SET NAME; duplicate SET; merge SET SET …; delete SET; restore SET; bin"


@dataclass(frozen=True)
class ReadHow:
    """How a file, a paste or a dataset is read."""

    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Of a file of an unknown layout: prompt=COLUMN, positive=COLUMN, tags=ONE,TWO …; give it again for more."
        ),
    ] = None
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Only rows where COLUMN=VALUE; also != ~ (holds) > < >= <=. Of a dataset: hf:…")
    ] = None
    limit: Annotated[int, typer.Option(min=1, help="Of a dataset: at most so many rows.")] = 2000

    @property
    def mapping(self) -> dict[str, str] | None:
        """The columns by our names. Raises: BadKnob: a text without `=`."""
        return named(self.columns, "--map") or None


@grouped
def demos(
    words: Annotated[
        list[str] | None, typer.Argument(help=f"A set, a file, hf:org/name, hf:folder, or - for a paste: print what is in it. Or: {_WAYS}.")
    ] = None,
    *,
    reading: ReadHow,
    out: Annotated[Path | None, typer.Option(help="Write the rows to this .jsonl or .csv file.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the rows as a set of the workspace.")] = False,
    name: Annotated[str, typer.Option(help="What the kept or merged set is called.")] = "",
    rows: Annotated[int, typer.Option(min=0, help="How many rows to print.")] = 5,
    workspace: Home = None,
    json: Json = False,
) -> None:
    """List demonstration sets, look into one (rows, problems line by line, checks), or make, rename, copy, merge and delete them."""
    from workbench.workspace.home import Workspace
    from workbench.workspace.shelf import Shelf

    home = Workspace(workspace)
    shelf = Shelf(lambda: home)
    if not words:
        _list(shelf, json)
    elif words[0] == "bin" and len(words) == 1:
        found = home.sets.deleted()
        told = table([{"set": item.id, "title": item.name, "rows": item.n} for item in found])
        answer({"bin": found}, json, [*told, f"They go for good after {home.bin_days:g} days."])
    elif words[0] in _VERBS and len(words) > 1:
        info, line = _done(shelf, words, name)
        answer({"set": info}, json, [line])
    elif len(words) > 1:
        raise BadDemonstrations(f"Got demos {' '.join(words)}.", f"Name one set or file, or write demos {_WAYS}.")
    else:
        _look_into(shelf, words[0], reading, out, name.strip() if save else None, rows, json)


def _deleted(shelf: Shelf, key: str) -> Any:
    info = _own(shelf, key)
    shelf.delete(key)
    return info


def _own(shelf: Shelf, key: str) -> Any:
    offer = shelf.info(key)
    if offer.saved is None:
        raise BadDemonstrations(f"{key!r} ships with Retouch and stays as it is.", f"Copy it first: retouch demos duplicate {key}")
    return offer.saved


# Word → (how many words follow it, or None for any number; what it does; what it says then).
_VERBS: Mapping[str, tuple[int | None, Callable[[Any, Sequence[str], str], Any], str]] = {
    "new": (1, lambda shelf, words, name: shelf.new(words[0]), "Begun"),
    "rename": (2, lambda shelf, words, name: shelf.rename(_own(shelf, words[0]).id, words[1]), "Renamed to"),
    "duplicate": (1, lambda shelf, words, name: shelf.duplicate(words[0]), "Copied to"),
    "merge": (None, lambda shelf, words, name: shelf.merge(words, name), "Merged into"),
    "delete": (1, lambda shelf, words, name: _deleted(shelf, words[0]), "Put into the bin:"),
    "restore": (1, lambda shelf, words, name: shelf.restore(words[0]), "Taken out of the bin:"),
}


def _done(shelf: Shelf, words: Sequence[str], name: str) -> tuple[Any, str]:
    """Do what the first word says with the others."""
    n, do, says = _VERBS[words[0]]
    if n is not None and len(words) - 1 != n:
        raise BadDemonstrations(f"demos {words[0]} takes {n} {'word' if n == 1 else 'words'}, got {len(words) - 1}.", f"Write {_WAYS}.")
    info = do(shelf, words[1:], name)
    return info, f"{says} {info.name} ({info.id}), {info.n} rows."


def _list(shelf: Shelf, as_json: bool) -> None:
    found = shelf.list()
    splits = [_splits(shelf, item.id) for item in found]
    listed = [{"set": item.id, "title": item.title, "kind": item.kind, "rows": item.n, **n} for item, n in zip(found, splits)]
    answer({"sets": [{**asdict(item), "n_split": n} for item, n in zip(found, splits)]}, as_json, table(listed))


def _splits(shelf: Shelf, key: str) -> Mapping[str, int | str]:
    try:
        return shelf.n_split(key)
    except BadDemonstrations as error:  # one damaged set must not hide the others
        return {"damaged": str(error)}


def _read(source: str, how: ReadHow) -> Imported | None:
    """What a file, a dataset or a paste holds; None for a set or several sources."""
    from workbench.data import hub, pasting
    from workbench.data.conditions import Condition
    from workbench.data.sources import read

    where = tuple(Condition.read(text) for text in how.where or ())
    if source == "-":
        return pasting.read_pasted(pasting.pasted(sys.stdin.read(), True if how.columns else None), mapping=how.mapping)
    if source.startswith(_HUB):
        return hub.read_hub(hub.hub_source(source.removeprefix(_HUB), where, how.limit), mapping=how.mapping)
    if where:
        raise BadDemonstrations("--where chooses rows of a dataset.", "Name one as hf:org/name, or its folder as hf:FOLDER.")
    return read(source, mapping=how.mapping) if Path(source).suffix != "" else None


def _look_into(shelf: Shelf, source: str, how: ReadHow, out: Path | None, keep_as: str | None, n_rows: int, as_json: bool) -> None:
    from workbench.data.checks import checks
    from workbench.data.sources import write

    imported = _read(source, how)
    found = imported.demonstrations if imported else shelf.resolve(source)
    problems = imported.problems if imported else ()
    results = checks(found)
    told: dict[str, Any] = {"name": found.name, "n": len(found), "problems": [_problem(item) for item in problems]}
    told |= {"checks": results, "rows": found.rows[:n_rows], "fingerprint": found.fingerprint}
    lines = [f"{found.name}: {len(found)} rows" + (f", read as {imported.format}" if imported else "")]
    lines += [f"  {problem} {problem.hint}" for problem in problems[:20]]
    lines += [f"  … and {len(problems) - 20} more problems"] * (len(problems) > 20)
    lines += [f"  {item.title}: {item.count} rows. {item.advice}" for item in results if item.count]
    lines += [f"  {item.title}: not judged. {item.advice}" for item in results if item.severity == "unjudged"]
    lines += table(
        [{"split": row.split, "prompt": str(row.prompt), "positive": row.positive, "negative": row.negative} for row in found.rows[:n_rows]]
    )
    if out is not None:
        told["written"] = str(write(found, out))
        lines.append(f"Wrote {out}.")
    if keep_as is not None and len(found):
        info = shelf.save(type(found)(found.rows, keep_as or found.name), note=f"imported {Path(source).name}")
        told["saved"] = info
        lines.append(f"Saved as {info.name} ({info.id}).")
    answer(told, as_json, lines)


def _problem(problem: Any) -> dict[str, Any]:
    return {"line": problem.line, "what": problem.what, "hint": problem.hint}
