"""Options that commands share, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import BadKnob

Data = Annotated[str, typer.Option(help="A demonstration set, a file, or hf:org/name[/config][@part]; several with + between.")]
Edits = Annotated[list[str] | None, typer.Option("--edit", help="An edit's folder, id or name, with a dose as edit@0.5.")]
Dose = Annotated[float, typer.Option(help="Multiplies the dose of every edit: 0 is the base model, 1 as fitted.")]
Prompts = Annotated[list[str], typer.Option("--prompt", help="A prompt; give the option again for more.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A knob as name=value; give the option again for more.")]
Seed = Annotated[int, typer.Option(help="Drives every random choice.")]
SplitName = Annotated[str, typer.Option("--split", help="The rows that are scored: fit, validation, test or all.")]

_DOSED = re.compile(r"^(?P<edit>.+)@(?P<dose>-?\d+(?:\.\d+)?)$")


def named(pairs: Sequence[str] | None, option: str = "--set") -> dict[str, str]:
    """Read name=value texts.

    Raises:
        BadKnob: a text without `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise BadKnob(f"{option} {pair!r} is not name=value.", f"Write {option} name=value, for example {option} seed=0.")
        if name.strip() in found:
            raise BadKnob(f"{option} names {name.strip()!r} twice.", "Give each name once; several values go with commas.")
        found[name.strip()] = value.strip()
    return found


def stack(text: str, dose: float = 1.0) -> list[tuple[str, float]]:
    """Read a lane: edits with `+` between them, each perhaps with its dose as edit@0.5."""
    parts = [text] if Path(text).exists() else [part.strip() for part in text.split("+")]
    return [_dosed(part, dose) for part in parts if part]


def _dosed(text: str, dose: float) -> tuple[str, float]:
    match = None if Path(text).exists() else _DOSED.match(text)
    return (text, dose) if match is None else (match["edit"], dose * float(match["dose"]))


def lanes(edits: Sequence[str] | None, dose: float = 1.0) -> list[Any]:
    """One lane an edit option."""
    return [stack(text, dose) for text in edits or ()]


def split_named(text: str) -> Any:
    """Read a split's name; None for all.

    Raises:
        BadKnob: some other word.
    """
    if text not in ("fit", "validation", "test", "all"):
        raise BadKnob(f"--split {text!r} is no split.", "Use fit, validation, test or all.")
    return None if text == "all" else text


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Raises:
        BadKnob: one of them is no number, or there is none.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadKnob(f"{option} {text!r} holds something that is no number.", f"Write {option} 0.5,1,2.") from error
    if not found:
        raise BadKnob(f"{option} is empty.", f"Write {option} 0.5,1,2.")
    return found
