"""Commands that make something: fit an edit, export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.groups import Opening, grouped
from workbench.cli.options import LANE, ActsAt, Data, Dose, Seed, SetAsChat, Settings, System, dosed, laned, named
from workbench.cli.printing import answer, table
from workbench.errors import BadKnob, StorageFailed, UnknownName
from workbench.workspace.plain import plain

TARGETS = ("checkpoint", "peft", "script", "report")


@grouped
def locate(
    data: Annotated[str, typer.Argument(help="A demonstration set, or a file.")],
    opening: Opening,
    seed: Seed = 0,
    method: Annotated[str | None, typer.Option(help="A method: say what to expect of it at the layers that it is fitted at.")] = None,
    settings: Settings = None,
    chat: SetAsChat = None,
    system: System = "",
) -> None:
    """Before a fit: at which layer, and read from where, a set's sides differ and a small push moves the model, and how reliably."""
    from workbench.methods import get
    from workbench.methods.shared.reading import fitted_at
    from workbench.workspace.rendering import as_read

    known = None if method is None else get(method)
    config = None if known is None else known.configure(named(settings))
    session, progress = opening.session(0.2)
    rows = as_read(session.model, session.demos.resolve(data), chat, system)
    found = session.look("locate", rows, seed=seed, progress=progress)
    layer, reading = found.best
    told = {"model": found.model, "data": found.data, "layer": layer, "read": reading, "is_found": found.is_found, "says": found.says}
    told |= {"auc_band": found.auc_band, "effect_band": found.effect_band, "n_fit": found.n_fit, "n_held": found.n_held}
    own = ("", "") if known is None else found.foretold(known.title, fitted_at(config, session.model.info))
    told |= {"detail": found.detail, "method": {"name": method, "says": own[0], "detail": own[1]}}
    answer(told | {"rows": found.rows()}, opening.json, [*filter(None, (*own, found.says, found.detail)), *table(found.rows())])


@grouped
def fit(
    method: Annotated[str, typer.Argument(help="A method; `methods` lists them.")],
    data: Data,
    opening: Opening,
    settings: Settings = None,
    preset: Annotated[str | None, typer.Option(help="A preset to start from; `methods NAME` lists them.")] = None,
    seed: Seed = 0,
    dose: Annotated[float | None, typer.Option(help="The dose it is saved at: 1 as fitted; with --choose, the chosen one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the edit into this folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Keep the edit in the workspace under this name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
    choose: Annotated[bool, typer.Option("--choose", help="Let validation rows choose layers, shares, gates and the dose.")] = False,
    max_damage: Annotated[float, typer.Option(help="With --choose: KL that neutral text may move, nats a token.", min=0.0)] = 0.02,
    resume: Annotated[str | None, typer.Option(help="Go on with the search of this saved edit, up to --set budget=N.")] = None,
    chat: SetAsChat = None,
    system: System = "",
    place: ActsAt = "",
    all_rows: Annotated[bool, typer.Option("--all-rows", help="Fit on every row of a file that names no splits.")] = False,
) -> None:
    """Fit an edit on the rows marked fit. A file without splits gets them drawn by question: 40 % fit, 10 % validation."""
    from workbench.methods import get
    from workbench.place import read_place

    # Everything that can be wrong with words is said before the model is loaded.
    config, at = get(method).configure(named(settings), preset), dosed(dose)
    read_place(place)
    if resume is not None and (choose or place or set(named(settings)) != {"budget"}):
        raise BadKnob("A search that goes on keeps its knobs and its place; only its budget grows.", "Give --set budget=N alone.")
    if out is not None and out.exists() and not overwrite:
        raise StorageFailed(f"{out} exists already.", "Choose another folder, or give --overwrite.")
    session, progress = opening.session(0.2)
    rows = session.demos.resolve(data, "fit" if all_rows else None)
    how: dict[str, Any] = {"seed": seed, "chat": chat, "system": system, "place": place, "progress": progress}
    if resume is not None:
        fitted = session.proceed(resume, rows, config.budget, progress=progress)
    elif choose:
        found = session.choose(method, rows, named(settings), preset=preset, max_damage=max_damage, **how)
        fitted, at = found.fitted, found.best.dose if at is None else at
    else:
        fitted = session.fit(method, rows, config, **how)
    edit, head = fitted.edit.dosed(1.0 if at is None else at), fitted.edit.header
    counts = {split: sum(row.split == split for row in rows) for split in ("fit", "validation", "test")}
    told: dict[str, Any] = {"edit": edit.id, "method": head.method, "config": dict(head.config), "seed": head.seed, "dose": edit.dose}
    told |= {"rendered": head.rendered, "system": head.system, "place": edit.place}
    told |= {"model": session.model.info.name, "data": rows.name, "data_fingerprint": rows.fingerprint, "n_rows": counts}
    told |= {"scalars": fitted.report.scalars, "notices": plain(fitted.report.notices), "folder": None, "saved": None}
    lines = [
        f"Fitted {head.method} edit {edit.id} at dose {edit.dose:g} on {counts['fit']} rows of {rows.name} ({session.model.info.name})."
    ]
    lines += [f"Read as conversations ({head.rendered})."] * bool(head.rendered)
    lines += ["What the fit says of itself, on rows that it learned from or chose by:"] * bool(fitted.report.scalars)
    lines += table([{"what": key, "value": float(value)} for key, value in fitted.report.scalars.items()])
    lines += [f"{notice.level}: {notice.text} {notice.hint}".rstrip() for notice in fitted.report.notices]
    if out is not None:
        told["folder"] = str(session.shelf.write(edit, out, overwrite=overwrite))
        lines.append(f"Wrote {out}.")
    if name is not None:
        told["saved"] = session.save_edit(edit, name).name
        lines.append(f"Saved as {name}.")
    answer(told, opening.json, lines)


@grouped
def keep_edit(
    edit: Annotated[str, typer.Argument(help="An edit as a lane has it: ID:2@user keeps that dose and that place.")],
    opening: Opening,
    out: Annotated[Path | None, typer.Option(help="Write the edit into this folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Keep the edit in the workspace under this name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
) -> None:
    """Keep an edit at a dose and a place of its own, as another edit."""
    if out is None and name is None:
        raise StorageFailed("There is nowhere to keep it.", "Give --out FOLDER, or --name NAME for the workspace.")
    from workbench.edits.labels import edit_label

    session, _ = opening.session(1.0)
    one = session.shelf.own(edit)
    told: dict[str, Any] = {"edit": one.id, "dose": one.dose, "place": one.place, "folder": None, "saved": None}
    lines = [f"{edit_label(one)}: edit {one.id}."]
    if out is not None:
        told["folder"] = str(session.shelf.write(one, out, overwrite=overwrite))
        lines.append(f"Wrote {out}.")
    if name is not None:
        told["saved"] = session.save_edit(edit, name).name
        lines.append(f"Saved as {name}.")
    answer(told, opening.json, lines)


@grouped
def export(
    edit: Annotated[list[str], typer.Option("--edit", help=LANE)],
    to: Annotated[str, typer.Option("--to", help="checkpoint, peft, script or report.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    opening: Opening,
    dose: Dose = None,
) -> None:
    """Take edits home at their doses: a checkpoint, a PEFT adapter, a stand-alone script, or a report."""
    if to not in TARGETS:
        raise UnknownName("export", to, TARGETS)
    at = dosed(dose)
    session, progress = opening.session(0.3)
    lane = tuple(laned(session, edit, at))
    found = session.export(lane, to, out, progress=progress)  # pyright: ignore[reportArgumentType]
    told = plain(found)
    parts = [{"what": key, "value": value} for key, value in told.items()] if isinstance(told, dict) else []
    answer(told, opening.json, [f"Exported to {out}.", *table(parts)])
