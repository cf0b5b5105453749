"""How commands answer: one JSON object with `--json`, else tables and sentences; errors in one sentence and a hint."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from workbench.progress import Progress, Report
from workbench.workspace.plain import plain

_WIDEST = 60
_QUIET_S = 0.2


def answer(value: Any, as_json: bool, lines: Sequence[str]) -> None:
    """Print a result: as JSON for programs, or as lines for people."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False, indent=1) if as_json else "\n".join(lines))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as aligned columns; a long cell is cut unless it is the last, a number has four digits."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(row.get(name), None if name == columns[-1] else _WIDEST) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in (columns, *cells)]


def cell(value: Any, widest: int | None = _WIDEST) -> str:
    """One value in a table: control characters made visible, so that model output cannot move the cursor."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = visible(str(value))
    return text if widest is None or len(text) <= widest else text[: widest - 1] + "…"


def spanned(form: str, value: float, low: float | None, high: float | None) -> str:
    """A number with its interval, where it has one."""
    return f"{value:{form}}" + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def visible(text: str) -> str:
    """A text in one line: line breaks as ⏎, other control characters escaped."""
    shown = text.replace("\n", "⏎")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def complain(message: str, hint: str) -> None:
    """Print an error: what is wrong, then what to do."""
    typer.echo(f"{message.rstrip()}\n{hint}", err=True)


def on_terminal(as_json: bool) -> Progress:
    """Progress that a person at a terminal can watch; silent in pipes and with `--json`."""
    if as_json or not sys.stderr.isatty():
        return Progress()
    told = [0.0]

    def tell(report: Report) -> None:
        now = time.monotonic()
        if report.share >= 1 or now - told[0] > _QUIET_S:
            told[0] = now
            line = "" if report.share >= 1 else f"{report.share:4.0%}  {report.doing}"
            typer.echo(f"\r\x1b[K{line}", err=True, nl=False)

    return Progress(tell)
