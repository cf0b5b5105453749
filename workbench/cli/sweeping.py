"""Commands that look for the best edit: one over its doses, a method over its knobs, several at equal damage."""

from __future__ import annotations

import itertools
import json as json_text
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.groups import Opening, grouped
from workbench.cli.looking import NeutralSet
from workbench.cli.options import Data, Edits, Seed, SetAsChat, SplitName, System, laned, named, numbers, split_named
from workbench.cli.printing import answer, spanned, table
from workbench.edits.lane import valid_dose
from workbench.errors import BadKnob

if TYPE_CHECKING:
    from workbench.data.demonstrations import Split
    from workbench.progress import Progress
    from workbench.session import Session

Out = Annotated[Path | None, typer.Option(help="Write the rows to this JSON file too.")]


@grouped
def sweep(
    data: Data,
    opening: Opening,
    edit: Annotated[str | None, typer.Option(help='An edit to run at several doses, perhaps as ID+prompt:"…".')] = None,
    beside: Annotated[list[str] | None, typer.Option("--lane", help='A lane to measure once beside them, such as prompt:"…".')] = None,
    method: Annotated[str | None, typer.Option(help="Or a method to fit at every point of a grid of knobs.")] = None,
    doses: Annotated[str, typer.Option(help="Doses with commas, counted from the fit.")] = "0.25,0.5,0.75,1,1.5,2,3",
    grid: Annotated[list[str] | None, typer.Option("--grid", help="A knob's values as name=a|b|c; again for more.")] = None,
    seed: Seed = 0,
    split: SplitName = "test",
    neutral: NeutralSet = None,
    chat: SetAsChat = None,
    system: System = "",
    out: Out = None,
) -> None:
    """Run one edit over doses, or fit a method over a grid of knobs, and measure gain and damage of each."""
    which, strengths = split_named(split), [valid_dose(number) for number in numbers(doses, "--doses")]
    if (edit is None) == (method is None):
        raise BadKnob("A sweep needs either an edit or a method.", "Give --edit for doses, or --method with --grid.")
    points, why, notes = _grid(method, grid), "", tuple[str, ...]()
    session, progress = opening.session(0.2)
    if edit is not None:
        others = laned(session, beside, None)
        swept = session.sweep(
            session.shelf.read(edit), data, strengths, split=which, neutral=neutral, beside=others, chat=chat, system=system,
            progress=progress,
        )  # fmt: skip
        rows, why, notes = swept.rows(), swept.why, swept.notes
    else:
        rows, why, notes = _fits(session, str(method), points, data, seed, (chat, system), which, neutral, progress)
    told = {"model": session.model.info.name, "data": data, "split": split, "rows": rows, "left_out_why": why, "notes": notes}
    if out is not None:
        write_told(out, told)
    answer(told, opening.json, [*([why] if why else []), *table([_in_words(row) for row in rows]), *(f"Note: {note}" for note in notes)])


def write_told(path: Path, told: Any) -> None:
    from workbench.workspace.database import storing
    from workbench.workspace.plain import plain

    with storing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_text.dumps(plain(told), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _grid(method: str | None, grid: list[str] | None) -> list[dict[str, str]]:
    """Every point of the grid; each is checked before anything is fitted."""
    named_values = {name: text.split("|") for name, text in named(grid, "--grid").items()}
    points = [dict(zip(named_values, values)) for values in itertools.product(*named_values.values())]
    if method is not None:
        from workbench.methods import get

        for point in points:
            get(method).configure(point)
    return points


def _fits(
    session: Session,
    method: str,
    points: list[dict[str, str]],
    data: str,
    seed: int,
    rendering: tuple[bool | None, str],
    split: Split | None,
    neutral: str | None,
    progress: Progress,
) -> tuple[list[dict[str, Any]], str, tuple[str, ...]]:
    """A row a point and one for its placebo; which rows were left out, and what is to be known, each said once."""
    from workbench.evaluate.metrics import scores_of

    how: dict[str, Any] = dict(zip(("chat", "system"), rendering))
    rows, why, notes = list[dict[str, Any]](), list[str](), list[str]()
    for i, point in enumerate(points):
        part = progress.part(i / len(points), (i + 1) / len(points))
        fitted = session.fit(method, data, point, seed=seed, progress=part.part(0, 0.6), **how)
        found = session.evaluate(
            fitted.edit, data, split=split, neutral=neutral, n_placebos=1, n_generations=8, progress=part.part(0.6, 1), **how
        )  # fmt: skip
        for lane, label in enumerate(found.lanes):
            if lane:
                rows.append({"lane": label.label, **point, "edit": fitted.edit.id, **scores_of(found.all_metrics, lane)})
        why.append(found.benefit.why)
        notes += found.notes
    return rows, " ".join(dict.fromkeys(filter(None, why))), tuple(dict.fromkeys(notes))


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a sweep with each score and its interval in one cell."""
    scored = [name for name in row if f"{name}_low" in row]
    parts = {f"{name}_{end}" for name in scored for end in ("low", "high", "n")}
    told = {name: spanned(".3g", row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in scored}
    return {name: told.get(name, value) for name, value in row.items() if name not in parts}


@grouped
def equal_damage(
    data: Data,
    opening: Opening,
    method: Annotated[list[str] | None, typer.Option(help="A method to fit with its defaults; give the option again for more.")] = None,
    edit: Edits = None,
    limit: Annotated[float, typer.Option(help="The damage: KL on neutral text, 95th percentile of tokens, in nats.")] = 0.1,
    placebos: Annotated[int, typer.Option(min=0, help="Random edits of the same shape, each at its own dose; 0 for none.")] = 2,
    shuffled: Annotated[bool, typer.Option("--shuffled", help="Fit each edit on shuffled sides too, at its own dose.")] = False,
    seed: Seed = 0,
    split: SplitName = "test",
    neutral: NeutralSet = None,
    chat: SetAsChat = None,
    system: System = "",
    out: Out = None,
) -> None:
    """Put methods and edits at equal damage: each at the dose at which it moves neutral text as far, beside prompts as they are."""
    which = split_named(split)
    if not method and not edit:
        raise BadKnob("There is nothing to put at equal damage.", "Give --method, again for more, or --edit.")
    session, progress = opening.session(0.1)
    found = session.equal_damage(
        data, method or (), laned(session, edit, None), limit=limit, split=which, neutral=neutral, shuffled=shuffled, n_placebos=placebos,
        chat=chat, system=system, seed=seed, progress=progress,
    )  # fmt: skip
    told = {
        "model": found.model,
        "data": found.data,
        "split": split,
        "limit": limit,
        "metric": found.title,
        "sentence": found.sentence,
        "rows": found.rows(),
    }
    told |= {"refused": dict(found.refused), "told": found.told}
    if out is not None:
        write_told(out, told)
    lines = [found.sentence.replace("**", "")]
    lines += [f"{found.title}, {found.data}, split {split}; tail of KL on neutral text {limit:g} nats a token. Intervals are 95 %."]
    answer(told, opening.json, [*lines, *table(found.table()), *found.told])
