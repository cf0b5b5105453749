"""A fit as a command, and a command's fit: what `retouch fit` itself makes of its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

import typer

from workbench import methods as registered
from workbench.cli import making
from workbench.cli.options import named
from workbench.errors import BadKnob
from workbench.knobs import COMPAT, as_json
from workbench.workspace.asked_fit import AskedFit

_STARTS = (["retouch"], ["python", "-m", "workbench"], ["python3", "-m", "workbench"])
# A line that goes on behind a backslash, but not inside quotes.
_CONTINUED = re.compile(r"""('[^']*'|"(?:\\.|[^"\\])*")|\\\n""", re.DOTALL)
_FORM = "Write retouch fit METHOD --model … --data …, with options of `retouch fit --help`."
# What a form has no place for: where the edit goes, and fits that are asked for otherwise.
_ELSEWHERE = ("out", "name", "overwrite", "choose", "resume", "all_rows", "json", "max_damage")


def written_command(asked: AskedFit) -> str:
    """The command that fits it.

    Raises:
        BadKnob: a knob's value that the option --set cannot say, such as a text that begins with a space.
    """
    pairs = [f"{name}={_text(value)}" for name, value in _flat(asked.config)]
    known = registered.get(asked.method)
    if as_json(known.configure(named(pairs))) != as_json(known.configure(asked.config)):
        raise BadKnob(
            "A value of this form cannot be said by --set: a list that holds a comma, or a text with spaces at its ends.",
            "Take the JSON or the Python.",
        )
    parts = ["retouch", "fit", asked.method, "--model", asked.model, "--data", asked.data]
    for pair in pairs:
        parts += ["--set", pair]
    parts += ["--seed", str(asked.seed), "--dose", f"{asked.dose!r}"]
    parts += [] if asked.chat is None else ["--chat" if asked.chat else "--no-chat"]
    for name, usual in (("system", ""), ("place", ""), ("dtype", "float32"), ("device", "cpu"), ("workspace", "")):
        value: str = getattr(asked, name)
        parts += [f"--{name}", value] if value != usual else []
    return " ".join(map(shlex.quote, parts))


def _flat(config: Mapping[str, object]) -> list[tuple[str, object]]:
    """Knobs one by one, the switches of `compat` by their own names."""
    found: list[tuple[str, object]] = []
    for name, value in config.items():
        switches = cast("Mapping[str, object]", value) if name == COMPAT else None
        found += [(name, value)] if switches is None else [(f"{name}.{switch}", item) for switch, item in switches.items()]
    return found


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, cast("Sequence[object]", value))) if isinstance(value, list | tuple) else str(value)


def read_command(text: str) -> AskedFit:
    """The fit that a command asks for, as the command line itself reads it; a preset and --set become knobs.

    Raises:
        BadKnob: it is no such command, or asks for what a form of a fit has no place for. Others: as `AskedFit`.
    """
    try:
        words = shlex.split(_CONTINUED.sub(lambda found: found[1] or " ", text))
    except ValueError as error:
        raise BadKnob(f"This is no command: {error}.", "Close what is quoted.") from error
    start = next((start for start in _STARTS if words[: len(start)] == start), [])
    if words[len(start) : len(start) + 1] != ["fit"] or "--help" in words:
        raise BadKnob("This is no fit.", _FORM)
    given = _options(words[len(start) + 1 :])
    made = registered.get(given["method"]).configure(named(given["settings"]), given["preset"])
    told = {name: given[name] for name in ("method", "data", "seed", "chat", "system", "place", "model", "dtype", "device")}
    folder = given["workspace"]
    dose = 1.0 if given["dose"] is None else given["dose"]
    return AskedFit(**told, config=as_json(made), dose=dose, workspace="" if folder is None else str(folder))


def _options(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words behind `fit`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(making.fit)
    command: Any = typer.main.get_command(app)
    try:
        context = command.make_context("fit", words)
    except Exception as error:  # Typer brings its own copy of click, whose classes have no place to be imported from
        told: Any = getattr(error, "format_message", None)
        if told is None:
            raise
        raise BadKnob(str(told()), _FORM) from error
    given: dict[str, Any] = context.params
    usual = {item.name: item.default for item in command.params}
    extra = [name for name in _ELSEWHERE if given[name] != usual[name]]
    if extra:
        what = ", ".join(f"--{name.replace('_', '-')}" for name in extra)
        raise BadKnob(f"{what}: the form of a fit has no place for it.", "Leave it out here; the command line takes it.")
    return given
