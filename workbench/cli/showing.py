"""Commands that show what there is: models, methods with their knobs; and the one that starts the app."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.groups import Device, DType, Home, Json
from workbench.cli.printing import answer, on_terminal, table
from workbench.errors import ModelUnavailable
from workbench.resources import APP, HOME, LOOPBACK, models_of
from workbench.workspace.share import CLASS_ENVIRONMENT


def models(
    name: Annotated[str | None, typer.Argument(help="A model to look up: what it needs, before it is loaded. Or: get.")] = None,
    wanted: Annotated[str | None, typer.Argument(help="After get: the recommended model to fetch into the workspace.")] = None,
    works: Annotated[
        bool, typer.Option("--works", help="Load the model too, and say what works on it, and why the rest does not.")
    ] = False,
    dtype: DType = "float32",
    device: Device = "cpu",
    workspace: Home = None,
    json: Json = False,
) -> None:
    """List the models that are at hand, say what one would need, or get a recommended one."""
    from workbench.models import catalog
    from workbench.models.listing import entries

    folder = models_of(workspace)
    if name == "get" or wanted is not None:
        _get(name, wanted, folder, json)
        return
    if name is None:
        found = entries(folder)
        rows = [
            {"model": item.name, "title": item.title, "parameters": f"{item.parameters / 1e6:.0f} M" if item.parameters else "",
             "licence": item.licence, "present": item.is_present, "fits": item.fits}
            for item in found
        ]  # fmt: skip
        lines = [*table(rows), "Get one with: retouch models get NAME. Or give a Hugging Face folder, a GGUF file, or a hub id."]
        answer({"models": [{**asdict(item), "fits": item.fits} for item in found]}, json, lines)
        return
    if dtype not in catalog.DTYPES:
        raise ModelUnavailable(f"No dtype {dtype!r}.", f"Choose one of {', '.join(catalog.DTYPES)}.")
    size = catalog.estimate(name, dtype=dtype, device=device, models=folder)  # pyright: ignore[reportArgumentType]
    says = f"{name}: {size.architecture}, {size.n_parameters:,} parameters; needs about {size.bytes_needed / 1e9:.2f} GB"
    fits = f"of {size.bytes_free / 1e9:.1f} GB free: {'fits' if size.fits else 'does not fit'}."
    notes = [note for note in (catalog.note(name, folder),) if note]
    told = {"model": name, "fits": size.fits, "estimate": size, "note": " ".join(notes)}
    lines = [f"{says} {fits}", *notes]
    if works:
        found, more = _works(name, {"dtype": dtype, "device": device, "models": folder, "progress": on_terminal(json)})
        answer(told | found, json, [*lines, *more])
    else:
        answer(told, json, [*lines, f"What works on it, after loading it: retouch models {name} --works"])


def _works(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Load a model and ask every method and lens about it: as JSON, and as lines."""
    from workbench.models import catalog
    from workbench.workspace.model_facts import capabilities

    began = time.perf_counter()
    model = catalog.load(name, **options)
    seconds, rows = time.perf_counter() - began, capabilities(model)
    lines = [f"Loaded in {seconds:.1f} s as {model.info.architecture}, {model.info.dtype} on {model.info.device}."]
    for kind, title in (("method", "Methods"), ("lens", "Lenses")):
        lines.append(f"{title} that work: {', '.join(row['what'] for row in rows if row['kind'] == kind and not row['why']) or 'none'}.")
    lines += [f"{row['what']} ({row['kind']}): {row['why']}" for row in rows if row["why"]]
    return {"seconds": seconds, "info": asdict(model.info), "works": rows}, lines


def _get(name: str | None, wanted: str | None, folder: Path, json: bool) -> None:
    from workbench.models import catalog

    if name != "get" or wanted is None:
        raise ModelUnavailable(
            f"Got models {name} {wanted or ''}".rstrip() + "; needed: models get NAME.", "Run: retouch models get smollm2-135m"
        )
    where = catalog.fetch_recommended(wanted, folder, progress=on_terminal(json))
    note = catalog.note(wanted, folder)
    answer(
        {"model": wanted, "folder": where, "note": note},
        json,
        [f"{wanted} is in {where}.", note, f"Try: retouch generate --model {wanted} --prompt …"],
    )


def methods(name: Annotated[str | None, typer.Argument(help="A method: print its knobs.")] = None, json: Json = False) -> None:
    """List the methods, or print one method's knobs and presets."""
    from workbench.knobs import as_json, compat_of, knobs
    from workbench.methods import get, names
    from workbench.methods.shared.evidence import evidence

    if name is None:
        found = [get(item) for item in names()]
        rows = [{"method": item.name, "title": item.title, "what it does": item.summary} for item in found]
        told = [{"name": item.name, "title": item.title, "summary": item.summary, "paper": item.paper} for item in found]
        answer({"methods": told}, json, table(rows))
        return
    method = get(name)
    items, compat = knobs(method.config), compat_of(method.config)
    rows = [{"knob": item.name, "default": _default(item), "allowed": _allowed(item), "what it is": item.help} for item in items]
    needs = f"Needs of each demonstration: {', '.join(method.needs.columns)}; at least {method.needs.min_rows} rows."
    needs += " Or two sets of prompts, labelled target and anti_target." if method.needs.sets else ""
    presets = [f"Preset {key}: {', '.join(f'{k}={_text(v)}' for k, v in values.items())}" for key, values in method.presets.items()]
    told = {"name": method.name, "title": method.title, "summary": method.summary, "paper": method.paper}
    told |= {"needs": method.needs, "knobs": items, "presets": method.presets, "compat": compat, "evidence": evidence(name)}
    released = () if compat is None else (f"As released, --set compat=official: {compat.words(as_json(compat.official))}.",)
    about = [method.summary, *filter(None, [evidence(name)]), needs]
    answer(told, json, [f"{method.title} ({method.paper})", *about, "", *table(rows), "", *presets, *released])


def _default(item: Any) -> str:
    return "none" if item.default is None else _text(item.default)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _allowed(item: Any) -> str:
    if item.choices:
        return " | ".join(item.choices)
    span = "" if item.bounds is None else f" {item.bounds[0]:g}…{item.bounds[1]:g}"
    return item.kind + span + (", or none" if item.optional else "") + (f" {item.unit}" if item.unit else "")


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page answers.")] = 8501,
    address: Annotated[str, typer.Option(help="localhost keeps the app on this machine.")] = "localhost",
    workspace: Home = None,
    is_class: Annotated[bool, typer.Option("--class", help="One person has a share of this machine: of jobs, memory and models.")] = False,
    json: Json = False,
) -> None:
    """Start the app in the browser."""
    # -P: a folder or file of the person's own that is called as a module of ours must not be imported in its place.
    # Streamlit reads the settings that lie beside the script, over those of the person's folder and home.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(APP), "--server.port", str(port), "--server.address", address]
    environment = {
        **(CLASS_ENVIRONMENT if is_class else {}),
        **os.environ,
        **({} if workspace is None else {HOME: str(workspace.resolve())}),
    }
    is_open = address not in LOOPBACK
    lines = [f"Retouch answers on http://{address}:{port}"]
    lines += ["Anybody who reaches this address can use it: there is no password."] * is_open
    answer({"url": f"http://{address}:{port}", "open_to_others": is_open}, json, lines)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # in this process's place: a signal to the command reaches the app
